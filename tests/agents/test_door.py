"""The door over real sockets: whom it believes, what it publishes, what it says, and what it bears."""

import asyncio
import logging
import re
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import pytest_asyncio

from adapters.reports.sns import Amazon
from schemas.metrics import DOOR_EVENTS, DOOR_HEARD_TIMESTAMP, DOOR_REFUSED
from schemas.reports import ReportForged, ReportSeen
from schemas.topics import DELIVERY_INPUTS, DELIVERY_PARTITIONS, partition_of
from streams.agents.door import MAX_AGE, Door, check_settings
from streams.agents.provider_reports import Publisher
from streams.delivery.identity import delivery_key, loose, normalise, recipient_of
from streams.log.kafka import AppendUncertain, Connection
from streams.settings import DoorSettings, SettingMissing, Settings
from tests.adapters import webhook_samples as samples
from tests.adapters.sns_server import SnsServer, issue
from tests.adapters.webhook_samples import ADDRESS, AT, FORGED, KEY, RECIPIENT, TOKEN, TOPIC, mailgun, ses, webhook
from tests.agents.memory_log import MemoryLog, MemoryReader, MemoryWriter

SECRET = "Zm9yLXRoZS1kb29y-path"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
ONE_CLICK = "List-Unsubscribe=One-Click"


class BreakableWriter(MemoryWriter):
    """A writer whose Kafka may be away."""

    away = False

    def __init__(self, log: MemoryLog) -> None:
        super().__init__(log)
        self.entered = asyncio.Event()

    async def append(self, topic: str, partition: int, key: bytes | None, value: bytes) -> int:
        """Append, or not."""
        self.entered.set()
        if self.away:
            raise AppendUncertain("Kafka at nowhere does not answer")
        assert key is not None
        assert partition == partition_of(key, DELIVERY_PARTITIONS)
        return await super().append(topic, partition, key, value)


class House:
    """A door with what stands behind it."""

    def __init__(self, folder: Path, amazon: Amazon, **given: Any) -> None:
        (folder / "secrets").mkdir(parents=True, exist_ok=True)
        for name, value in (("path", SECRET), ("mailgun", samples.SIGNING_KEY), ("other", "another key")):
            (folder / "secrets" / name).write_text(value)
            (folder / "secrets" / name).chmod(0o600)
        (folder / "fleet.key").write_bytes(KEY)
        usual: dict[str, Any] = {
            "path_ref": "file:path",
            "mailgun_keys": ("file:other", "file:mailgun"),
            "sns_topics": (TOPIC,),
            "head_s": 0.5,
            "body_s": 0.5,
        }
        self.settings = Settings(
            Connection("nowhere"), "", folder, "door-1", key_file=folder / "fleet.key",
            door=DoorSettings(**usual | given),
        )  # fmt: skip
        self.log = MemoryLog()
        self.writer = BreakableWriter(self.log)
        self.now = AT
        publisher = Publisher(self.settings, self.writer, "door")
        self.door = Door(self.settings, MemoryReader(self.log), publisher, amazon, lambda: self.now)
        self.task: asyncio.Task[None] | None = None
        self._client = httpx.AsyncClient(verify=False, timeout=10)  # no TLS here: it saves reading certificates

    async def open(self) -> None:
        """Listen, and wait until it does."""
        self.task = asyncio.create_task(self.door.run())
        while self.door.port == 0:
            assert not self.task.done(), self.task
            await asyncio.sleep(0)

    async def close(self) -> None:
        """End."""
        self.door.stop()
        assert self.task is not None
        await self.task
        await self._client.aclose()

    async def ask(self, method: str, path: str, content: Any = None, **how: Any) -> httpx.Response:
        """Ask the door."""
        return await self._client.request(method, f"http://127.0.0.1:{self.door.port}{path}", content=content, **how)

    async def mailgun(self, body: bytes) -> int:
        """Post for Mailgun."""
        return (await self.ask("POST", f"/{SECRET}/mailgun", body)).status_code

    async def sns(self, notice: dict[str, Any]) -> int:
        """Post for Amazon, as it does: JSON under another name."""
        kind = {"Content-Type": "text/plain; charset=UTF-8", "x-amz-sns-message-type": notice["Type"]}
        return (await self.ask("POST", f"/{SECRET}/sns", orjson.dumps(notice), headers=kind)).status_code

    @property
    def published(self) -> list[Any]:
        """What is in delivery-inputs."""
        return self.log.facts(DELIVERY_INPUTS.name)


@pytest_asyncio.fixture
async def amazon(tmp_path: Path) -> AsyncIterator[SnsServer]:
    """SNS on a socket of loopback."""
    made = SnsServer(tmp_path)
    await made.start()
    yield made
    await made.stop()


@pytest_asyncio.fixture
async def house(tmp_path: Path, amazon: SnsServer, caplog: pytest.LogCaptureFixture) -> AsyncIterator[House]:
    """An open door; afterwards no address, token or secret may stand in any log line."""
    caplog.set_level(logging.DEBUG)
    made = House(tmp_path / "home", Amazon(amazon.trust, amazon.client()))
    await made.open()
    yield made
    await made.close()
    words = [r.getMessage() for r in caplog.records if not r.name.startswith(("httpx", "httpcore"))]
    for secret in (ADDRESS, TOKEN, SECRET, samples.SIGNING_KEY):
        assert not any(secret in line for line in words)


def nobodys() -> Amazon:
    """Return a checker that trusts nobody who is there."""
    return Amazon(ssl.create_default_context(cadata=issue("Nobody", None).pem.decode()))


@pytest_asyncio.fixture
async def small_house(tmp_path: Path) -> AsyncIterator[House]:
    """An open door that has four connections."""
    made = House(tmp_path / "home", nobodys(), connections=4)
    await made.open()
    yield made
    await made.close()


def refused(why: str) -> float:
    """How often the door refused for this reason."""
    return float(DOOR_REFUSED.labels(why)._value.get())


# ── what is measured ─────────────────────────────────────────────────────────────────────────────


def heard() -> dict[str, datetime]:
    """When each provider was last believed."""
    (metric,) = DOOR_HEARD_TIMESTAMP.collect()
    return {s.labels["provider"]: datetime.fromtimestamp(s.value, UTC) for s in metric.samples}


async def test_the_door_tells_when_it_last_believed_whom_it_expects(house: House, amazon: SnsServer) -> None:
    assert heard() == {"mailgun": AT, "ses": AT}, "silence counts from the beginning on"
    house.now = AT + timedelta(minutes=1)
    assert await house.mailgun(webhook(mailgun("failed permanent"), signature=samples.signature(key="nobody's"))) == 404
    assert heard()["mailgun"] == AT
    assert await house.mailgun(webhook(mailgun("failed permanent"))) == 200
    house.now = AT + timedelta(minutes=2)
    assert await house.sns(amazon.notice(orjson.dumps(ses("Complaint")).decode(), TOPIC)) == 200
    assert heard() == {"mailgun": AT + timedelta(minutes=1), "ses": AT + timedelta(minutes=2)}


async def test_a_door_without_keys_expects_nobody_and_counts_every_mismatch_from_zero(tmp_path: Path) -> None:
    DOOR_HEARD_TIMESTAMP.clear()
    DOOR_REFUSED.clear()
    house = House(tmp_path / "home", nobodys(), mailgun_keys=(), sns_topics=())
    await house.open()
    await house.close()
    assert heard() == {}
    told = {sample.labels["why"] for metric in DOOR_REFUSED.collect() for sample in metric.samples}
    assert {"signature", "stale", "topic", "unreadable"} <= told


# ── Mailgun ──────────────────────────────────────────────────────────────────────────────────────


async def test_a_webhook_becomes_a_report_in_the_partition_of_its_token(house: House) -> None:
    assert await house.mailgun(webhook(mailgun("failed permanent"))) == 200
    (fact,) = house.published
    assert isinstance(fact, ReportSeen)
    assert (fact.kind, fact.source, fact.token, fact.attempt) == ("bounce", "webhook", TOKEN, 2)
    assert (fact.recipient, fact.recipient_loose) == (RECIPIENT, recipient_of(loose(normalise(ADDRESS)), KEY))
    assert fact.reply is not None
    assert fact.reply.code == 550
    records = [r for place in house.log.records.values() for r in place]
    assert ADDRESS not in repr(records)


async def test_every_event_of_mailgun_is_answered_with_200(house: House) -> None:
    for number, name in enumerate(samples.MAILGUN_EVENTS):
        assert await house.mailgun(webhook(mailgun(name, id=f"event-{number}"))) == 200, name
    kinds = [fact.kind for fact in house.published if isinstance(fact, ReportSeen)]
    bounces = [*["bounce"] * 4, "unsubscribe", *["bounce"] * 4]  # one of them Mailgun held back for a person's wish
    assert kinds == ["accepted", "delivered", *bounces, "complaint", "unsubscribe"]


async def test_events_in_any_order_and_again_are_published_once_each(house: House) -> None:
    names = ["delivered", "accepted", "failed later", "complained"]
    bodies = [webhook(mailgun(name, id=name)) for name in names]
    for body in (*bodies, *reversed(bodies), *bodies):
        assert await house.mailgun(body) == 200
    assert [fact.event_id.rpartition("/")[2] for fact in house.published] == names


async def test_a_replayed_signature_with_another_body_is_dropped(house: House) -> None:
    block = samples.signature()
    assert await house.mailgun(webhook(mailgun("delivered"), signature=block)) == 200
    assert await house.mailgun(webhook(mailgun("complained", id="made up"), signature=block)) == 200
    assert [fact.kind for fact in house.published] == ["delivered"]


async def test_the_webhooks_of_account_and_domain_tell_of_one_event(house: House) -> None:
    event = mailgun("failed permanent")
    assert [await house.mailgun(webhook(event)) for _ in range(2)] == [200, 200]
    assert len(house.published) == 1


async def test_who_has_no_key_hears_what_one_on_the_wrong_path_hears(house: House) -> None:
    before = refused("signature")
    wrong = webhook(mailgun("delivered"), signature=samples.signature("a key of nobody"))
    forged = await house.ask("POST", f"/{SECRET}/mailgun", wrong)
    lost = await house.ask("POST", "/of-nobody-at-all/mailgun", webhook(mailgun("delivered")))
    assert (forged.status_code, forged.text) == (lost.status_code, lost.text) == (404, forged.text)
    assert house.published == []
    assert refused("signature") == before + 1


@pytest.mark.parametrize("off", [-MAX_AGE, MAX_AGE])
async def test_a_signature_of_another_day_is_not_believed(house: House, off: timedelta) -> None:
    house.now = AT + off + timedelta(minutes=1) * (1 if off > timedelta(0) else -1)
    assert await house.mailgun(webhook(mailgun("delivered"))) == 404
    house.now = AT + off
    assert await house.mailgun(webhook(mailgun("delivered"))) == 200, "8 hours of tries are well within"


@pytest.mark.parametrize("body", [b"", b"{", b"event=delivered", b'{"signature": {}, "event-data": []}'])
async def test_what_can_never_be_read_is_not_to_be_tried_again(house: House, body: bytes) -> None:
    assert await house.mailgun(body) == 406
    assert await house.mailgun(webhook({"event": "failed"})) == 406
    assert house.published == []


async def test_while_kafka_is_away_mailgun_is_told_to_come_again_and_nothing_is_lost(house: House) -> None:
    body = webhook(mailgun("complained"))
    house.writer.away = True
    assert await house.mailgun(body) == 503
    house.writer.away = False
    assert await house.mailgun(body) == 200
    assert [fact.kind for fact in house.published] == ["complaint"]


async def test_a_token_that_is_not_ours_is_a_forged_report(house: House) -> None:
    assert await house.mailgun(webhook(mailgun("complained", user_variables={"mailfleet-token": FORGED}))) == 200
    (fact,) = house.published
    assert isinstance(fact, ReportForged)


async def test_without_a_token_the_recipient_finds_the_partition(house: House) -> None:
    theirs = {"user_variables": {}, "message": {"headers": {"message-id": "1@crm.test"}}}
    assert await house.mailgun(webhook(mailgun("unsubscribed", **theirs))) == 200
    (place,) = [key for key, records in house.log.records.items() if records]
    assert place == (DELIVERY_INPUTS.name, partition_of(delivery_key(RECIPIENT), DELIVERY_PARTITIONS))


async def test_a_rotated_key_counts_from_the_next_webhook_on(house: House) -> None:
    body = webhook(mailgun("delivered"), signature=samples.signature("rotated"))
    assert await house.mailgun(body) == 404
    (house.settings.secrets_folder / "mailgun").write_text("rotated\n")
    assert await house.mailgun(body) == 200


# ── Amazon ───────────────────────────────────────────────────────────────────────────────────────


async def test_every_event_of_ses_is_answered_with_200(house: House, amazon: SnsServer) -> None:
    for name in samples.SES_EVENTS:
        assert await house.sns(amazon.notice(orjson.dumps(ses(name, messageId=name)).decode(), TOPIC)) == 200, name
    kinds = [fact.kind for fact in house.published if isinstance(fact, ReportSeen)]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "accepted": 1, "delivered": 1, "bounce": 18, "unsubscribe": 3, "complaint": 4
    }  # fmt: skip


async def test_a_notice_again_and_an_event_again_are_published_once(house: House, amazon: SnsServer) -> None:
    message = orjson.dumps(ses("Bounce Permanent")).decode()
    first = amazon.notice(message, TOPIC)
    assert [await house.sns(notice) for notice in (first, first, amazon.notice(message, TOPIC))] == [200] * 3
    assert len(house.published) == 1


async def test_a_topic_that_is_not_ours_is_not_believed_though_amazon_signed(house: House, amazon: SnsServer) -> None:
    theirs = amazon.notice(orjson.dumps(ses("Complaint")).decode(), TOPIC.replace("123456789012", "999999999999"))
    assert await house.sns(theirs) == 404
    confirm = amazon.notice("", TOPIC + "2", "SubscriptionConfirmation")
    assert await house.sns(confirm) == 404
    assert (house.published, amazon.asked) == ([], [])


async def test_a_notice_that_was_changed_is_not_believed(house: House, amazon: SnsServer) -> None:
    notice = amazon.notice(orjson.dumps(ses("Delivery")).decode(), TOPIC)
    assert await house.sns(notice | {"Message": orjson.dumps(ses("Complaint")).decode()}) == 404
    assert house.published == []


async def test_a_subscription_of_ours_is_confirmed_once(house: House, amazon: SnsServer) -> None:
    notice = amazon.notice("You have chosen ...", TOPIC, "SubscriptionConfirmation")
    assert [await house.sns(notice) for _ in range(2)] == [200, 200]
    assert len([path for path in amazon.asked if "ConfirmSubscription" in path]) == 1
    assert await house.sns(amazon.notice("You have ...", TOPIC, "UnsubscribeConfirmation")) == 200
    greeting = "Successfully validated SNS topic for Amazon SES event publishing."
    assert await house.sns(amazon.notice(greeting, TOPIC)) == 200
    assert house.published == []


async def test_while_amazon_or_kafka_is_silent_the_notice_is_to_come_again(house: House, amazon: SnsServer) -> None:
    notice = amazon.notice(orjson.dumps(ses("Complaint")).decode(), TOPIC)
    certificates = dict(amazon.answers)
    amazon.answers = {}
    assert await house.sns(notice) == 503
    amazon.answers = certificates
    house.writer.away = True
    assert await house.sns(notice) == 503
    house.writer.away = False
    assert await house.sns(notice) == 200
    assert len(house.published) == 1


async def test_a_message_that_is_no_event_is_not_to_be_tried_again(house: House, amazon: SnsServer) -> None:
    assert await house.sns(amazon.notice("hello", TOPIC)) == 406
    assert await house.sns({"Type": "Hello"}) == 406


# ── recipients ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", [f"/{TOKEN}", f"/u/{TOKEN}", f"/u/{TOKEN}/", f"/u?t={TOKEN}", f"/u/{TOKEN.upper()}"])
async def test_a_link_scanner_unsubscribes_nobody(house: House, path: str) -> None:
    for method in ("GET", "HEAD", "OPTIONS", "PUT", "DELETE"):
        answer = await house.ask(method, path)
        assert answer.status_code == (200 if method in ("GET", "HEAD") else 400)
        assert "set-cookie" not in answer.headers
    assert (await house.ask("GET", path + ("&" if "?" in path else "?") + "utm_source=x")).status_code == 200
    assert house.published == []


MULTIPART = (
    "--abc\r\nContent-Disposition: form-data; name=\"List-Unsubscribe\"\r\n\r\nOne-Click\r\n--abc--\r\n",
    {"Content-Type": "multipart/form-data; boundary=abc"},
)  # fmt: skip


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (ONE_CLICK, FORM),
        (ONE_CLICK, {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}),
        (ONE_CLICK + "\r\n", FORM),
        (ONE_CLICK, {}),
        MULTIPART,
    ],
)
async def test_a_post_unsubscribes_without_cookie_redirect_or_question(
    house: House, body: str, headers: dict[str, str]
) -> None:
    answer = await house.ask("POST", f"/u/{TOKEN}", body, headers=headers)
    assert (answer.status_code, answer.headers.get("set-cookie"), answer.headers.get("location")) == (200, None, None)
    (fact,) = house.published
    assert isinstance(fact, ReportSeen)
    assert (fact.kind, fact.source, fact.token, fact.at) == ("unsubscribe", "one_click", TOKEN, AT)


async def test_the_pages_button_unsubscribes_and_again_is_fine(house: House) -> None:
    page = (await house.ask("GET", f"/u/{TOKEN}")).text
    (name, value) = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]+)">', page)[0]
    assert 'method="post"' in page
    for _ in range(2):
        answer = await house.ask("POST", f"/u/{TOKEN}", f"{name}={value}", headers=FORM)
        assert answer.status_code == 200
        assert "You are unsubscribed" in answer.text
    assert {fact.kind for fact in house.published} == {"unsubscribe"}


@pytest.mark.parametrize("body", ["", "List-Unsubscribe=Two-Clicks", "x" * 5_000, "List-Unsubscribe", "&" * 200])
async def test_a_post_that_is_no_wish_unsubscribes_nobody_and_shows_the_page(house: House, body: str) -> None:
    answer = await house.ask("POST", f"/u/{TOKEN}", body, headers=FORM)
    assert answer.status_code == 400
    assert "<button" in answer.text
    assert house.published == []


async def test_a_link_that_is_not_ours_says_nothing_and_is_counted(house: House) -> None:
    before = refused("token")
    answers = [await house.ask(m, f"/u/{FORGED}", ONE_CLICK if m == "POST" else None) for m in ("GET", "POST")]
    short = await house.ask("GET", f"/u/{TOKEN[:-3]}")
    assert {(a.status_code, a.text) for a in (*answers, short)} == {(404, short.text)}
    assert house.published == []
    assert refused("token") == before + 2


async def test_while_kafka_is_away_the_page_says_so_and_offers_the_button_again(house: House) -> None:
    house.writer.away = True
    answer = await house.ask("POST", f"/u/{TOKEN}", ONE_CLICK, headers=FORM)
    assert answer.status_code == 503
    assert "<button" in answer.text


async def test_the_page_is_a_page_for_everybody(house: House) -> None:
    answer = await house.ask("GET", f"/u/{TOKEN}")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    for needed in ('<html lang="en">', "<title>", '<meta name="viewport"', "<main>", "<h1>", '<button type="submit">'):
        assert needed in answer.text
    assert "<script" not in answer.text
    assert "http" not in answer.text.replace("https", "").lower(), "it loads nothing"


# ── the open net ─────────────────────────────────────────────────────────────────────────────────


async def test_nothing_says_what_serves_here(house: House) -> None:
    answers = [
        await house.ask("GET", "/health"),
        await house.ask("GET", f"/u/{TOKEN}"),
        await house.ask("POST", f"/{SECRET}/mailgun", b"{"),
        await house.ask("GET", "/.git/config"),
    ]
    assert {answer.headers["server"] for answer in answers} == {"mailfleet"}
    raw = await talk(house, b"\x16\x03\x01 this is no HTTP\r\n\r\n")
    assert b"aiohttp" not in raw
    assert b"Python" not in raw
    assert b"no HTTP" not in raw, "what was sent is not sent back"


async def talk(house: House, *pieces: bytes, pause_s: float = 0.0) -> bytes:
    """Send pieces on one connection and return all that comes until the door hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", house.door.port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_s)
        return await asyncio.wait_for(reader.read(), 5)
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


def request(path: str, length: int | None, *headers: str) -> bytes:
    """Return the head of a POST."""
    told = [] if length is None else [f"Content-Length: {length}"]
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: door", *told, *headers, "", ""]).encode()


async def test_a_client_slow_with_its_head_is_hung_up_on(small_house: House) -> None:
    assert await talk(small_house) == b"", "one that says nothing"
    assert await talk(small_house, *[b"GET / HTTP/1.1\r\nX: "], *[b"y"] * 4, pause_s=0.2) == b"", "one that drips"


async def test_a_client_slow_with_its_body_is_hung_up_on(small_house: House) -> None:
    before = refused("too_slow")
    raw = await talk(small_house, request(f"/{SECRET}/mailgun", 1_000), b"x")
    assert raw.startswith(b"HTTP/1.1 408")
    assert refused("too_slow") == before + 1


async def test_bodies_are_bounded_said_or_unsaid(small_house: House) -> None:
    said = await talk(small_house, request(f"/{SECRET}/mailgun", 2**40))
    assert said.startswith(b"HTTP/1.1 413")
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    unsaid = await talk(small_house, request(f"/{SECRET}/mailgun", None, "Transfer-Encoding: chunked"), *[chunk] * 20)
    assert unsaid[:12] in (b"HTTP/1.1 413", b"")  # or the reset of one who still writes
    packed = await talk(small_house, request(f"/{SECRET}/mailgun", 4, "Content-Encoding: gzip"), b"abcd")
    assert packed.startswith(b"HTTP/1.1 415")


async def test_heads_are_bounded(small_house: House) -> None:
    raw = await talk(small_house, b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\n\r\n")
    assert b" 400 " in raw[:16]
    raw = await talk(small_house, request("/", 0, *[f"X-{n}: 1" for n in range(200)]))
    assert b" 400 " in raw[:16]


async def test_too_many_connections_are_hung_up_on_and_the_door_lives(small_house: House) -> None:
    held = [await asyncio.open_connection("127.0.0.1", small_house.door.port) for _ in range(4)]
    assert await talk(small_house, b"GET /health HTTP/1.1\r\nHost: door\r\n\r\n") == b""
    for _, writer in held:
        writer.close()
        await writer.wait_closed()
    for _ in range(200):
        try:
            answer = await small_house.ask("GET", f"/u/{TOKEN}")
            break
        except httpx.HTTPError:  # the connections that ended are not forgotten yet
            await asyncio.sleep(0.01)
    assert answer.status_code == 200


async def test_a_cut_upload_publishes_nothing(small_house: House) -> None:
    body = webhook(mailgun("complained"))
    _, writer = await asyncio.open_connection("127.0.0.1", small_house.door.port)
    writer.write(request(f"/{SECRET}/mailgun", len(body)) + body[:-10])
    await writer.drain()
    writer.transport.abort()
    assert await small_house.mailgun(body) == 200
    assert len(small_house.published) == 1


async def test_what_goes_wrong_inside_is_a_500_without_words(
    small_house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_what: object) -> int:
        raise RuntimeError(f"a bug, with {ADDRESS} in it")

    monkeypatch.setattr(small_house.writer, "append", broken)
    answer = await small_house.ask("POST", f"/u/{TOKEN}", ONE_CLICK, headers=FORM)
    assert (answer.status_code, answer.text) == (500, "")
    assert "RuntimeError" in caplog.text
    assert ADDRESS not in caplog.text


async def test_health_follows_kafka(house: House) -> None:
    for _ in range(200):
        if (answer := await house.ask("GET", "/health")).status_code == 200:
            break
        await asyncio.sleep(0.01)
    assert (answer.status_code, answer.text) == (200, "ok\n")


async def test_a_request_under_way_is_answered_when_the_door_closes(tmp_path: Path) -> None:
    made = House(tmp_path / "home", nobodys())
    await made.open()
    held = made.log.held_up[DELIVERY_INPUTS.name] = asyncio.Event()
    asking = asyncio.create_task(made.mailgun(webhook(mailgun("complained"))))
    await made.writer.entered.wait()
    closing = asyncio.create_task(made.close())
    await asyncio.sleep(0)
    held.set()
    assert await asking == 200
    await closing


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"path_ref": ""}, "DOOR_PATH"),
        ({"path_ref": "file:nothing"}, "cannot be read"),
        ({"path_ref": "file:short"}, "16 to 128"),
        ({"sns_topics": ("ses-events",)}, "no ARN"),
        ({"mailgun_keys": ("mg.firm.test=file:nothing",)}, "cannot be read"),
    ],
)
def test_a_setting_that_is_wrong_is_named(tmp_path: Path, given: dict[str, Any], said: str) -> None:
    house = House(tmp_path, None, **given)  # type: ignore[arg-type]  # nobody asks Amazon here
    (tmp_path / "secrets" / "short").write_text("abc")
    (tmp_path / "secrets" / "short").chmod(0o600)
    with pytest.raises(SettingMissing, match=said):
        check_settings(house.settings)


def test_every_event_is_counted_under_a_name_of_a_closed_list() -> None:
    names = {sample.labels["event"] for metric in DOOR_EVENTS.collect() for sample in metric.samples}
    assert len(names) < 60
    assert datetime.now(UTC) > AT - timedelta(days=1)
