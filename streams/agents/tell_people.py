"""Tells people of alerts by Telegram, each message once, and takes their orders.

A message's sending is written to topic alert-posts before and after: what a crash leaves in between is looked for in
the chat (an edit to the same text is answered "not modified" where it stands already) before anything is sent again.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from adapters.telegram import Heard, Telegram, TelegramAway, TelegramRefused
from schemas.health import AlertRaised, AlertResolved
from schemas.metrics import TELEGRAM_CALLS, TELEGRAM_WAITS
from schemas.telling import AlertAcknowledged, AlertPosted, AlertPosting
from schemas.topics import ALERT_POSTS, ALERTS, Topic
from streams.agents.alert_board import Board, Post, Quiet, Story, fitted, text_of
from streams.agents.facts import append, fact_of
from streams.agents.side_by_side import side_by_side
from streams.log.kafka import AppendUncertain, LogUnreachable, Reader, Record, Writer
from streams.settings import Settings

PROBED = 25
"""Message ids after the last known one in which a message of doubtful fate is looked for."""
POLL_S = 1.0
LISTEN_AGAIN_S = 5.0
HELLO = "mailfleet tells of its alerts here; /status says how it stands"
LONGEST_WAIT_S = 60.0
Order = Callable[[str, str], Awaitable[str]]
"""(what follows the command, who orders it) → the answer. Raises OrderWrong."""

log = logging.getLogger("mailfleet")


class OrderWrong(ValueError):
    """A command that cannot be carried out as it was written; the text says how to write it."""


class CannotTell(Exception):
    """Telegram refuses the bot for good; the text says what to mend."""


@dataclass(frozen=True)
class Audience:
    """Who is told, and who may order. `people` maps Telegram user ids to names; `digest_hour` is local to `quiet`."""

    chat: int
    people: Mapping[int, str]
    quiet: Quiet = field(default_factory=Quiet)
    gap_s: float = 3.0  # between two calls: a group takes 20 messages a minute (Bot FAQ, limits)
    digest_hour: int = 8


@dataclass
class Digest:
    """What makes the daily digest's text, from the read models."""

    text: Callable[[], Awaitable[str]]


@dataclass
class Teller:
    """One bot process; two of one token would take each other's updates."""

    settings: Settings
    telegram: Telegram
    audience: Audience
    orders: Mapping[str, Order]
    digest: Digest | None = None
    heartbeat: Callable[[], Awaitable[None]] | None = None
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    reader: Reader | None = None  # by default of the settings' Kafka
    writer: Writer | None = None
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.board = Board(self.audience.quiet)
        self._reader = self.reader or Reader(self.settings.connection)
        self._writer = self.writer or Writer(self.settings.connection)
        self._read = {ALERTS.name: 0, ALERT_POSTS.name: 0}
        self._heard_up_to = 0
        self._owed: deque[tuple[int, str]] = deque()  # (chat, answer) to orders that are carried out
        self._answers: set[tuple[int, int]] = set()  # (chat, message) of answers: no alert stands there
        self._not_sent: set[str] = set()  # posts that Telegram put off: they do not stand in the chat

    def stop(self) -> None:
        """End; what is under way is found again by the next process."""
        self._stopping.set()

    async def run(self) -> None:
        """Tell and listen until stopped. Raises CannotTell."""
        try:
            await side_by_side(self._tell_for_ever(), self.listen(), self._stopping.wait())
        finally:
            await self._writer.close()
            await self._reader.close()

    # ── telling ──────────────────────────────────────────────────────────────────────────────────

    async def _tell_for_ever(self) -> None:
        wait = 0.0
        while True:
            try:
                await self.catch_up()
                busy = await self.step()
                await self._beat()
                wait = 0.0
                await asyncio.sleep(self.audience.gap_s if busy else POLL_S)
            except (LogUnreachable, AppendUncertain, TelegramAway) as error:
                TELEGRAM_WAITS.inc()
                wait = waits(wait, error)
                log.warning("the teller tries again in %.0f s: %s", wait, error)
                await asyncio.sleep(wait)
            except TelegramRefused as error:
                raise CannotTell(
                    f"Telegram refuses the bot: {error}. Check TELEGRAM_TOKEN and TELEGRAM_CHAT."
                ) from error

    async def _beat(self) -> None:
        if self.heartbeat is not None:
            await self.heartbeat()

    async def catch_up(self) -> None:
        """Read on in both topics; alerts first, for posts name them. Raises LogUnreachable."""
        for topic in (ALERTS, ALERT_POSTS):
            name = self.settings.topic(topic)
            first, end = await self._reader.bounds(name, 0)
            async for chunk in self._reader.read(name, 0, max(first, self._read[topic.name]), end):
                for record in chunk:
                    self._take(topic, record)
            self._read[topic.name] = end

    def _take(self, topic: Topic, record: Record) -> None:
        fact = fact_of(topic, record)
        if isinstance(fact, AlertRaised | AlertResolved):
            self.board.heard(record.offset, record.at, fact)
        elif isinstance(fact, AlertPosting | AlertPosted | AlertAcknowledged):
            self.board.told(fact)

    async def step(self) -> bool:
        """Do one thing that is due; False when nothing is."""
        if not self._last_message:  # from where on would a message of doubtful fate be looked for?
            message = await self.telegram.say(self.audience.chat, HELLO, silent=True)
            await self._write(AlertPosted("hello", self.audience.chat, message, HELLO))
            return True
        unsure = self.board.unsure()
        if unsure:
            post = unsure[0]
            await (self._say(post) if post.id in self._not_sent else self._settle(post))
            return True
        new = self.board.new(self.now())
        if new is not None:
            await self._post(*new)
            return True
        changed = self.board.changed()
        if changed is not None:
            text = self.board.text(changed)
            said = await self._edit(changed.chat, changed.message_id, text, changed)
            if said == "not ours":
                log.warning("message %d cannot be edited: somebody deleted it, or it is too old", changed.message_id)
            await self._write(AlertPosted(changed.id, changed.chat, changed.message_id, text))
            return True
        return await self._digest()

    async def _post(self, id_: str, stories: list[Story]) -> None:
        offsets = tuple(story.offset for story in stories)
        await self._write(AlertPosting(id_, self.audience.chat, text_of(stories), offsets, self._last_message))
        await self._say(self.board.posts[id_])

    async def _say(self, post: Post) -> None:
        silent = all(story.raised.severity == "info" for story in post.stories)
        TELEGRAM_CALLS.labels("say").inc()
        self._not_sent.discard(post.id)
        try:
            message = await self.telegram.say(self.audience.chat, post.shown, _buttons(post), silent=silent)
        except TelegramAway as error:
            if error.after_s:
                self._not_sent.add(post.id)
            raise
        await self._write(AlertPosted(post.id, self.audience.chat, message, post.shown))

    async def _settle(self, post: Post) -> None:
        """Look whether a message of doubtful fate stands in the chat; send it only when it does not."""
        known = {(other.chat, other.message_id) for other in self.board.posts.values()} | self._answers
        for message in range(post.after + 1, post.after + 1 + PROBED):
            if (post.chat, message) not in known and await self._edit(
                post.chat, message, post.shown, post
            ) != "not ours":
                await self._write(AlertPosted(post.id, post.chat, message, post.shown))
                return
        await self._say(post)

    @property
    def _last_message(self) -> int:
        return self.board.last_message(self.audience.chat)

    async def _edit(self, chat: int, message: int, text: str, post: Post) -> str:
        TELEGRAM_CALLS.labels("edit").inc()
        try:
            return await self.telegram.edit(chat, message, text, _buttons(post))
        except TelegramRefused:
            if chat == self.audience.chat:
                raise
            return "not ours"  # the chat before TELEGRAM_CHAT was changed

    async def _write(self, fact: AlertPosting | AlertPosted | AlertAcknowledged) -> None:
        """Append to alert-posts, and fold: what a later look at the topic finds is the same. Raises AppendUncertain."""
        by = f"teller/{self.settings.name}"
        await append(self._writer, self.settings, ALERT_POSTS, fact, fact.post.encode(), by, at=self.now())
        self.board.told(fact)

    async def _digest(self) -> bool:
        if self.digest is None:
            return False
        now = self.now()
        local = now.astimezone(ZoneInfo(self.audience.quiet.zone))
        id_ = f"digest/{local:%Y-%m-%d}"
        if local.hour < self.audience.digest_hour or id_ in self.board.posts:
            return False
        text = fitted(await self.digest.text())
        await self._write(AlertPosting(id_, self.audience.chat, text, (), self._last_message))
        await self._say(self.board.posts[id_])
        return True

    # ── listening ────────────────────────────────────────────────────────────────────────────────

    async def listen(self) -> None:
        """Hear and obey for ever. Raises CannotTell."""
        while True:
            try:
                await self._say_answers()
                for heard in await self.telegram.hear(self._heard_up_to):
                    await self.obey(heard)
                    self._heard_up_to = max(self._heard_up_to, heard.update_id)
            except (TelegramAway, AppendUncertain, LogUnreachable) as error:
                wait = max(LISTEN_AGAIN_S, getattr(error, "after_s", 0.0))
                log.warning("the teller listens again in %.0f s: %s", wait, error)
                await asyncio.sleep(wait)
            except TelegramRefused as error:
                raise CannotTell(f"Telegram refuses to tell what people say: {error}") from error

    async def obey(self, heard: Heard) -> None:
        """Carry out what an allowed person wrote or pressed; anybody else is not answered."""
        self.board.passed(heard.chat, heard.message)
        name = self.audience.people.get(heard.person)
        if name is None:
            if heard.person:
                log.warning("person %d is not in TELEGRAM_PEOPLE and was not answered", heard.person)
            return
        who = f"{name} ({heard.person})"
        if heard.button:
            try:
                await self._pressed(heard, who)
            except TelegramRefused as error:  # a person who blocked the bot: the others are told all the same
                log.warning("%s could not be answered: %s", who, error)
        elif heard.text.startswith("/"):
            command, _, rest = heard.text[1:].partition(" ")
            answer = await self._ordered(command.partition("@")[0], rest.strip(), who)
            self._owed.append((heard.chat, answer))
            await self._carried_out(heard.update_id)
            await self._say_answers()

    async def _carried_out(self, update: int) -> None:
        """Never again this order, whatever becomes of its answer or of this process."""
        self._heard_up_to = max(self._heard_up_to, update)
        await self.telegram.confirm(update)

    async def _say_answers(self) -> None:
        while self._owed:
            chat, answer = self._owed[0]
            try:
                message = await self.telegram.say(chat, answer)
            except TelegramRefused as error:  # a chat that they left, or blocked
                log.warning("nobody could be answered in chat %d: %s", chat, error)
            else:
                self._answers.add((chat, message))
                self.board.passed(chat, message)
            self._owed.popleft()

    async def _pressed(self, heard: Heard, who: str) -> None:
        what, _, post = heard.button.partition(":")
        if what == "ack" and post in self.board.posts:
            if not self.board.posts[post].seen_by:
                await self._write(AlertAcknowledged(post, who, self.now()))
            await self.telegram.answer(heard.query, "noted")
        else:
            await self.telegram.answer(heard.query, "this message is not known any more")

    async def _ordered(self, command: str, rest: str, who: str) -> str:
        if command == "ack":
            return await self._acknowledged(rest, who)
        order = self.orders.get(command)
        if order is None:
            return "I know " + ", ".join(f"/{name}" for name in (*self.orders, "ack"))
        try:
            return fitted(await order(rest, who))
        except OrderWrong as wrong:
            return fitted(str(wrong))

    async def _acknowledged(self, rest: str, who: str) -> str:
        """Take /ack POST, or /ack alone for all that is going on."""
        open_ = [p for p in self.board.posts.values() if p.stories and not p.seen_by and rest in ("", p.id)]
        for post in open_:
            await self._write(AlertAcknowledged(post.id, who, self.now()))
        return f"noted: {len(open_)} message(s)"


def waits(before: float, error: Exception) -> float:
    """Return the seconds until the next try: longer each time, and never less than Telegram asks for."""
    return max(min(LONGEST_WAIT_S, max(1.0, before * 2)), getattr(error, "after_s", 0.0))


def _buttons(post: Post) -> list[tuple[str, str]]:
    return [("I look after it", f"ack:{post.id}")] if post.stories and not post.seen_by else []
