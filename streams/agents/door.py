"""The door: webhooks of Mailgun and Amazon SNS, one-click unsubscribes, and a page that tells whether it works.

A plain asyncio process. It decides nothing: what it believes becomes a report in delivery-inputs. 200 is said only
after Kafka's acknowledgement; whoever is not believed hears the same as one who took the wrong path.
"""

import asyncio
import hmac
import logging
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from adapters.reports import mailgun_events, mailgun_webhook, ses_events, sns
from adapters.reports.provider_event import NotAnEvent, Told
from adapters.secrets import SecretMissing, Secrets
from schemas.metrics import DOOR_EVENTS, DOOR_HEARD_TIMESTAMP, DOOR_REFUSED
from schemas.reports import ReportSeen
from schemas.topics import DELIVERY_INPUTS
from streams.agents import unsubscribe_page as page
from streams.agents.door_server import Answer, Asked, Bounds, DoorServer
from streams.agents.provider_reports import Publisher
from streams.agents.seen import Seen
from streams.delivery.identity import key_in
from streams.log.kafka import AppendUncertain, LogUnreachable, Reader
from streams.settings import SettingMissing, Settings

log = logging.getLogger(__name__)

MAX_AGE = timedelta(hours=24)
"""Of a signature of Mailgun's, which tries for 8 hours and may not sign anew."""
LOOK_S = 5.0
MISMATCHES = ("signature", "stale", "topic", "unreadable")
"""Why what came by the secret path is not believed: a key or a topic that does not fit, rather than a stranger."""
PROVIDERS = {"mailgun": "mailgun", "sns": "ses"}
"""Whose events come by which webhook, as routes name it."""
_PATH = re.compile(r"[A-Za-z0-9_-]{16,128}")
_ARN = re.compile(r"arn:aws(-cn|-us-gov)?:sns:[a-z0-9-]+:\d{12}:[A-Za-z0-9_-]{1,256}")

OK = Answer(200, "ok\n")
NOT_FOUND = Answer(404, page.UNKNOWN, "text/html", tuple(page.HEADERS.items()))
NEVER = Answer(406)
LATER = Answer(503, headers=(("Retry-After", "60"),))


def _html(status: int, body: str) -> Answer:
    return Answer(status, body, "text/html", tuple(page.HEADERS.items()))


class Door:
    """One door. Two side by side are safe: what both publish is decided once."""

    def __init__(
        self,
        settings: Settings,
        reader: Reader,
        publisher: Publisher,
        amazon: sns.Amazon,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings = settings
        self._reader = reader
        self._publisher = publisher
        self._amazon = amazon
        self._now = now
        self._secrets = Secrets(settings.secrets_folder)
        self._taken = Seen()
        self._kafka_answers = False
        given = settings.door
        bounds = Bounds(head_s=given.head_s, body_s=given.body_s, connections=given.connections)
        self._server = DoorServer(self.answer, bounds)
        self._stopping = asyncio.Event()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.port

    def stop(self) -> None:
        """Listen no more and end."""
        self._stopping.set()

    async def run(self) -> None:
        """Listen until stopped. Raises SettingMissing when it cannot."""
        await self.start()
        looking = asyncio.create_task(self._look())
        try:
            await self._stopping.wait()
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
            await self._server.close()
            await self._amazon.close()

    async def start(self) -> None:
        """Check the settings and listen. Raises SettingMissing."""
        check_settings(self._settings)
        host, port = self._settings.door.host, self._settings.door.port
        try:
            await self._server.start(host, port)
        except OSError as error:
            raise SettingMissing(f"the door cannot listen on DOOR_HOST {host}, DOOR_PORT {port}: {error}") from error
        self._measure_from_the_start()
        log.info("the door listens on %s port %s", host, self.port)

    def _measure_from_the_start(self) -> None:
        """A counter that first appears at 50 has not grown, for Prometheus; whose events are expected is known now."""
        for why in MISMATCHES:
            DOOR_REFUSED.labels(why)
        given = self._settings.door
        for source, expected in (("mailgun", given.mailgun_keys), ("sns", given.sns_topics)):
            if expected:
                self._heard(source)

    def _heard(self, source: str) -> None:
        DOOR_HEARD_TIMESTAMP.labels(PROVIDERS[source]).set(self._now().timestamp())

    async def _look(self) -> None:
        """Follow whether Kafka answers, at a pace of our own: a question at the door costs nothing."""
        while True:
            try:
                await self._reader.ends([(self._settings.topic(DELIVERY_INPUTS), 0)])
                self._kafka_answers = True
            except LogUnreachable as error:
                self._kafka_answers = False
                log.warning("the door cannot take anything: %s", error)
            await asyncio.sleep(LOOK_S)

    # ── who asks for what ────────────────────────────────────────────────────────────────────────

    async def answer(self, asked: Asked) -> Answer:
        """Return the answer to a request."""
        if asked.path == "/health":
            return OK if self._kafka_answers else Answer(503, "Kafka does not answer\n")
        token = page.token_of(asked.path, asked.query)
        if token:
            return await self._unsubscribe(asked, token)
        try:
            if asked.method == "POST" and (take := self._webhook(asked.path)) is not None:
                return await take(asked)
        except AppendUncertain as error:
            log.warning("a webhook was put off: %s", error)
            return LATER
        except SecretMissing as error:
            log.error("a webhook was put off: %s", error)
            return LATER
        return _refused("path", NOT_FOUND)

    def _webhook(self, path: str) -> "Callable[[Asked], asyncio.Future[Answer]] | None":
        """Return who takes what is posted to this path. Raises SecretMissing."""
        if not self._settings.door.path_ref:
            return None
        secret = self._secrets.resolve(self._settings.door.path_ref)
        for name, take in (("mailgun", self._mailgun), ("sns", self._sns)):
            if hmac.compare_digest(path.encode(), f"/{secret}/{name}".encode()):
                return take  # type: ignore[return-value]  # a coroutine function is as good
        return None

    async def _publish(self, source: str, told: Told) -> None:
        """Publish what was told. Raises AppendUncertain."""
        self._heard(source)
        for event in told.events:
            result = await self._publisher.event(event, "webhook")
            DOOR_EVENTS.labels(source, told.name, result).inc()
        if not told.events:
            DOOR_EVENTS.labels(source, told.name, "ignored").inc()

    # ── Mailgun ──────────────────────────────────────────────────────────────────────────────────

    async def _mailgun(self, asked: Asked) -> Answer:
        try:
            webhook = mailgun_webhook.read(asked.body)
        except NotAnEvent as error:
            log.warning("a webhook of Mailgun cannot be read: %s", error)
            return _refused("unreadable", NEVER)
        signature = webhook.signer(mailgun_keys(self._settings, self._secrets))
        if signature is None:
            return _refused("signature", NOT_FOUND)
        if signature.at is None or abs(self._now() - signature.at) > MAX_AGE:
            return _refused("stale", NOT_FOUND)
        if f"mailgun/{signature.token}" in self._taken:
            DOOR_EVENTS.labels("mailgun", "any", "duplicate").inc()
            return OK
        try:
            told = mailgun_events.parse(webhook.event)
        except NotAnEvent as error:
            log.warning("an event of Mailgun cannot be read: %s", error)
            return _refused("unreadable", NEVER)
        await self._publish("mailgun", told)
        self._taken.add(f"mailgun/{signature.token}")
        return OK

    # ── Amazon ───────────────────────────────────────────────────────────────────────────────────

    async def _sns(self, asked: Asked) -> Answer:
        try:
            notice = sns.read(asked.body)
        except NotAnEvent as error:
            log.warning("what was posted for SNS cannot be read: %s", error)
            return _refused("unreadable", NEVER)
        if notice.topic not in self._settings.door.sns_topics:
            return _refused("topic", NOT_FOUND)
        try:
            await self._amazon.check(notice)
            return await self._believed(notice)
        except sns.NotSigned as error:
            log.warning("a message of SNS is not believed: %s", error)
            return _refused("signature", NOT_FOUND)
        except sns.AmazonSilent as error:
            log.warning("a message of SNS was put off: %s", error)
            return LATER

    async def _believed(self, notice: sns.Notice) -> Answer:
        """Take what Amazon signed. Raises NotSigned, AmazonSilent, AppendUncertain."""
        if f"sns/{notice.message_id}" in self._taken:
            DOOR_EVENTS.labels("sns", "any", "duplicate").inc()
            return OK
        match notice.type:
            case "SubscriptionConfirmation":
                await self._amazon.confirm(notice)
                log.warning("subscribed to %s", notice.topic)
                told = Told("SubscriptionConfirmation")
            case "UnsubscribeConfirmation":
                log.error("the subscription to %s was ended; if you did not mean that, make it anew", notice.topic)
                told = Told("UnsubscribeConfirmation")
            case _:
                try:
                    told = ses_events.parse(notice.message.encode("utf-8", "replace"))
                except NotAnEvent as error:
                    log.warning("a message on %s is no event of SES: %s", notice.topic, error)
                    return _refused("unreadable", NEVER)
        await self._publish("sns", told)
        self._taken.add(f"sns/{notice.message_id}")
        return OK

    # ── recipients ───────────────────────────────────────────────────────────────────────────────

    async def _unsubscribe(self, asked: Asked, token: str) -> Answer:
        if not self._publisher.is_ours(token):
            return _refused("token", NOT_FOUND)
        if asked.method in ("GET", "HEAD"):
            DOOR_EVENTS.labels("one_click", "looked", "ignored").inc()
            return _html(200, page.ASK)
        if asked.method != "POST" or not page.asks_for_it(asked.content_type, asked.body):
            return _refused("not_one_click", _html(400, page.ASK))
        at = self._now()
        event_id = f"one-click/{token}/{at:%Y-%m-%dT%H:%M:%S}"
        try:
            await self._publisher.fact(key_in(token), ReportSeen("unsubscribe", "one_click", event_id, at, token))
        except AppendUncertain as error:
            log.warning("an unsubscribe could not be stored: %s", error)
            return _html(503, page.LATER)
        DOOR_EVENTS.labels("one_click", "unsubscribe", "published").inc()
        return _html(200, page.DONE)


def _refused(why: str, answer: Answer) -> Answer:
    DOOR_REFUSED.labels(why).inc()
    return answer


def mailgun_keys(settings: Settings, secrets: Secrets) -> list[mailgun_webhook.SigningKey]:
    """Return Mailgun's webhook signing keys. Raises SecretMissing."""
    found = []
    for one in settings.door.mailgun_keys:
        name, _, ref = one.rpartition("=")
        found.append(mailgun_webhook.SigningKey(secrets.resolve(ref).strip().encode(), name))
    return found


def check_settings(settings: Settings) -> None:
    """Raise SettingMissing for whatever would keep the door from doing what it is told to."""
    given, secrets = settings.door, Secrets(settings.secrets_folder)
    for arn in given.sns_topics:
        if not _ARN.fullmatch(arn):
            raise SettingMissing(
                f"DOOR_SNS_TOPICS names {arn!r}, which is no ARN such as arn:aws:sns:REGION:ACCOUNT:NAME"
            )
    if (given.mailgun_keys or given.sns_topics) and not given.path_ref:
        raise SettingMissing("DOOR_PATH is not set: webhooks need a secret path; `mailfleet door --urls` makes one")
    try:
        if any(not key.key for key in mailgun_keys(settings, secrets)):
            raise SettingMissing("DOOR_MAILGUN_KEYS names a secret that is empty")
        if given.path_ref and not _PATH.fullmatch(secrets.resolve(given.path_ref)):
            raise SettingMissing(f"DOOR_PATH: secret {given.path_ref} is not 16 to 128 of letters, digits, - and _")
    except SecretMissing as error:
        raise SettingMissing(f"the door lacks a secret: {error}") from error
