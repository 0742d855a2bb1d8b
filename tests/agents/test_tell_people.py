"""The Telegram bot over real HTTP: each alert once, whatever dies when; grouped, quiet at night, in order."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.telegram import Heard, Telegram, TelegramAway, TelegramRefused
from schemas import registry
from schemas.envelope import to_wire
from schemas.health import AlertRaised, AlertResolved, Severity
from schemas.ids import ClientId
from schemas.telling import AlertAcknowledged, AlertPosted
from schemas.topics import ALERT_POSTS, ALERTS
from streams.agents import tell_people
from streams.agents.alert_board import Board, Quiet
from streams.agents.tell_people import HELLO, Audience, Digest, OrderWrong, Teller, waits
from streams.log.kafka import Connection
from streams.settings import Settings
from tests.agents.memory_log import MemoryLog, MemoryReader, MemoryWriter
from tests.agents.telegram_server import CHAT, TOKEN, BotServer, running

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
NIGHT = datetime(2026, 3, 2, 23, 30, tzinfo=UTC)
ACME = ClientId("acme")
LENA = 7


class Killed(BaseException):
    """The process dies here."""


class World:
    """The log, the clock and Telegram; bots come and go."""

    def __init__(self, server: BotServer) -> None:
        self.server = server
        self.log = MemoryLog()
        self.now = NOON
        self.ordered: list[tuple[str, str]] = []
        self.bots: list[Telegram] = []

    def raises(
        self, alert: str, severity: Severity = "warning", at: datetime | None = None, detail: str = "3 of 50"
    ) -> None:
        """An alert is decided."""
        self._put(AlertRaised(ACME, alert, severity, f"{alert} is out", detail, "mailbox_unhealthy"), at)

    def resolves(self, alert: str) -> None:
        """It is over."""
        self._put(AlertResolved(ACME, alert, "well again"), None)

    def _put(self, fact: AlertRaised | AlertResolved, at: datetime | None) -> None:
        envelope = registry.enveloped(fact, id="x", at=self.now, key="acme", by="test")
        self.log.put(ALERTS.name, 0, to_wire(envelope), at or self.now)

    def bot(self, telegram: Telegram | None = None, writer: MemoryWriter | None = None, chat: int = CHAT) -> Teller:
        """A new process."""
        if telegram is None:
            telegram = Telegram(TOKEN, self.server.url)
        self.bots.append(telegram)
        return Teller(
            Settings(Connection("nowhere"), "", Path(), "bot"),
            telegram,
            Audience(chat, {LENA: "lena"}, Quiet(22, 7), gap_s=0),
            {"pause": self._pause},
            now=lambda: self.now,
            reader=MemoryReader(self.log),
            writer=writer or MemoryWriter(self.log),
        )

    @property
    def told(self) -> list[str]:
        """What the bot's messages say, in order, without its first word."""
        return [text for text in self.server.texts if text != HELLO]

    async def _pause(self, rest: str, who: str) -> str:
        if not rest:
            raise OrderWrong("write /pause and a mailbox")
        self.ordered.append((rest, who))
        return f"{rest} is paused"

    def facts(self) -> list[registry.Fact]:
        """What was written of posts."""
        return self.log.facts(ALERT_POSTS.name)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with running() as server:
        made = World(server)
        yield made
        for bot in made.bots:
            await bot.close()


async def tells_all(bot: Teller, limit: int = 50) -> None:
    """Let a bot do everything that is due."""
    for _ in range(limit):
        await bot.catch_up()
        if not await bot.step():
            return
    raise AssertionError("it never comes to an end")


async def test_an_alert_is_told_once_and_its_message_edited_as_the_story_goes_on(world: World) -> None:
    world.raises("mailbox_unhealthy/anna")
    bot = world.bot()
    await tells_all(bot)
    assert world.told == [], "it waits for others of its kind"
    world.now += timedelta(seconds=31)
    await tells_all(bot)
    (text,) = world.told
    assert "acme: mailbox_unhealthy/anna is out" in text
    assert "ops/runbooks/mailbox_unhealthy.md" in text
    world.raises("mailbox_unhealthy/anna")
    await tells_all(bot)
    assert "again, 2 times" in world.told[0]
    world.resolves("mailbox_unhealthy/anna")
    await tells_all(bot)
    (text,) = world.told
    assert text.startswith("✅")
    assert "resolved" in text
    await tells_all(world.bot())
    assert len(world.told) == 1, "a new process repeats nothing"


async def test_alerts_of_one_kind_are_grouped_and_different_kinds_are_not(world: World) -> None:
    for n in range(15):
        world.raises(f"mailbox_unhealthy/box{n}")
    world.raises("route_out/own")
    world.now += timedelta(minutes=1)
    await tells_all(world.bot())
    first, second = world.told
    assert "15 × mailbox unhealthy" in first
    assert "and 3 more" in first
    assert "route_out/own is out" in second


@pytest.mark.parametrize("detail", ["a word " * 1000, "📮" * 3000])
async def test_what_is_too_long_for_telegram_is_cut_and_names_its_runbook_all_the_same(
    world: World, detail: str
) -> None:
    world.raises("route_out/own", "critical", detail=detail)
    world.raises("route_out/other" * 400, "critical")
    world.raises("mailbox_unhealthy/anna", "critical", detail=detail)
    world.now += timedelta(minutes=1)
    bot = world.bot()
    await tells_all(bot)
    world.resolves("mailbox_unhealthy/anna")
    await bot.obey(Heard(1, LENA, CHAT, 1, "/ack"))
    await tells_all(bot)
    (first, second, _noted) = world.told
    for text in (first, second):
        assert "what to do: ops/runbooks/mailbox_unhealthy.md\nseen by lena" in text
    assert "resolved" in second


async def test_an_answer_that_is_too_long_is_cut(world: World) -> None:
    async def refuses(rest: str, _who: str) -> str:
        raise OrderWrong(f"nobody is named {rest}")

    bot = world.bot()
    bot.orders = {"why": refuses}
    await bot.obey(Heard(1, LENA, CHAT, 1, "/why " + "x" * 4090))
    assert world.told[0].startswith("nobody is named xxx")


async def test_at_night_only_what_is_critical_is_told_and_the_rest_in_the_morning(world: World) -> None:
    world.now = NIGHT
    world.raises("mailbox_unhealthy/anna")
    world.raises("partition_stopped/3", "critical")
    world.now += timedelta(minutes=1)
    bot = world.bot()
    await tells_all(bot)
    assert ["partition_stopped" in text for text in world.told] == [True]
    world.now = NIGHT + timedelta(hours=8)
    await tells_all(bot)
    assert ["mailbox_unhealthy/anna" in text for text in world.told] == [False, True]


async def test_after_an_hour_without_telegram_all_is_told_in_order_and_grouped(world: World) -> None:
    bot = world.bot()
    world.server.away = True
    for n in range(6):
        world.raises(f"mailbox_unhealthy/box{n}")
    world.raises("domain_closed/acme.test", "critical")
    world.now += timedelta(hours=1)
    for _ in range(3):
        await bot.catch_up()
        with pytest.raises(TelegramAway):
            await bot.step()
    world.server.away = False
    await tells_all(bot)
    assert ["6 × mailbox unhealthy" in text for text in world.told] == [True, False]
    assert "domain_closed" in world.told[1]


async def test_telegram_that_asks_for_patience_is_given_it(world: World) -> None:
    world.raises("route_out/own", "critical")
    world.now += timedelta(minutes=1)
    bot = world.bot()
    await bot.catch_up()
    world.server.patience_s = 17
    with pytest.raises(TelegramAway) as away:
        await bot.step()
    assert away.value.after_s == 17
    world.server.calls.clear()
    await tells_all(bot)
    assert len(world.told) == 1
    assert "editMessageText" not in world.server.calls, "it was put off, so it is looked for nowhere"


def test_the_wait_grows_to_a_minute_and_is_never_shorter_than_telegram_asks() -> None:
    assert [waits(before, TelegramAway("not reached")) for before in (0, 1, 16, 40, 500)] == [1, 2, 32, 60, 60]
    assert waits(1, TelegramAway("asked for patience", 300)) == 300


async def test_a_message_whose_answer_was_lost_is_found_and_not_sent_again(world: World) -> None:
    world.raises("route_out/own", "critical")
    world.now += timedelta(minutes=1)
    bot = world.bot()
    await bot.catch_up()
    world.server.hang_up_after = 1
    with pytest.raises(TelegramAway):
        await bot.step()
    world.server.person_says("what is going on?")
    await tells_all(world.bot())
    assert len(world.told) == 1
    assert isinstance(world.facts()[-1], AlertPosted)


async def test_an_answer_that_was_given_meanwhile_does_not_become_the_alert(world: World) -> None:
    world.raises("route_out/own", "critical")
    world.now += timedelta(minutes=1)
    bot = world.bot()
    await bot.catch_up()
    await bot.step()  # its hello
    world.server.away = True
    with pytest.raises(TelegramAway):
        await bot.step()
    world.server.away = False
    await bot.obey(Heard(1, LENA, CHAT, 1, "/pause anna@acme.test"))
    await tells_all(bot)
    assert ["is paused" in text for text in world.told] == [True, False]


async def test_a_group_that_moved_is_told_and_once_the_settings_name_the_new_one_all_is_told_there(
    world: World,
) -> None:
    new = CHAT - 1
    world.server.next_id = 5000
    world.raises("route_out/own", "critical")
    world.now += timedelta(minutes=1)
    await tells_all(world.bot())
    world.server.moved[CHAT] = new
    world.resolves("route_out/own")
    world.raises("route_out/other", "critical")
    world.now += timedelta(minutes=1)
    bot = world.bot()
    await bot.catch_up()
    with pytest.raises(TelegramRefused, match=f"supergroup, whose chat is {new}"):
        await bot.step()
    world.server.next_id = 2  # a supergroup counts by itself
    await tells_all(world.bot(chat=new))
    assert ["route_out/other" in text for text in world.told] == [False, True]
    world.raises("route_out/third", "critical")
    world.now += timedelta(minutes=1)
    bot = world.bot(chat=new)
    await bot.catch_up()
    world.server.hang_up_after = 1
    with pytest.raises(TelegramAway):
        await bot.step()
    await tells_all(world.bot(chat=new))
    assert len(world.told) == 3, "found where the new chat counts"


class MortalTelegram(Telegram):
    """Dies before or after its n-th call."""

    def __init__(self, url: str, life: "Life") -> None:
        super().__init__(TOKEN, url)
        self._life = life

    async def say(self, chat: int, text: str, buttons: Sequence[tuple[str, str]] = (), *, silent: bool = False) -> int:
        self._life.breathes()
        message = await super().say(chat, text, buttons, silent=silent)
        self._life.breathes()
        return message

    async def edit(self, chat: int, message: int, text: str, buttons: Sequence[tuple[str, str]] = ()) -> str:
        self._life.breathes()
        said = await super().edit(chat, message, text, buttons)
        self._life.breathes()
        return said

    async def confirm(self, update: int) -> None:
        self._life.breathes()
        await super().confirm(update)
        self._life.breathes()


class MortalWriter(MemoryWriter):
    """Dies before or after its n-th append."""

    def __init__(self, log: MemoryLog, life: "Life") -> None:
        super().__init__(log)
        self._life = life

    async def append(self, topic: str, partition: int, key: bytes | None, value: bytes) -> int:
        self._life.breathes()
        offset = await super().append(topic, partition, key, value)
        self._life.breathes()
        return offset


class Life:
    """So many breaths."""

    def __init__(self, breaths: int) -> None:
        self.left = breaths

    def breathes(self) -> None:
        """One more step, or the last."""
        if not self.left:
            raise Killed
        self.left -= 1


@pytest.mark.parametrize("breaths", range(20))
async def test_a_bot_that_is_killed_at_any_step_tells_each_alert_once(world: World, breaths: int) -> None:
    world.raises("route_out/own", "critical")
    world.raises("mailbox_unhealthy/anna")
    world.raises("mailbox_unhealthy/bert")
    world.now += timedelta(minutes=1)
    for bert_comes_back in (False, True):
        life = Life(breaths)
        with suppress(Killed):
            await tells_all(world.bot(MortalTelegram(world.server.url, life), MortalWriter(world.log, life)))
        world.server.person_says("hm")
        if bert_comes_back:
            world.resolves("mailbox_unhealthy/bert")
    await tells_all(world.bot())
    told = world.told
    assert sorted("route_out/own" in text for text in told) == [False, True]
    assert any("✓ mailbox_unhealthy/bert" in text for text in told)


async def test_only_allowed_people_are_obeyed_and_every_order_names_its_person(world: World) -> None:
    bot = world.bot()
    await bot.obey(Heard(1, 666, CHAT, 1, "/pause anna@acme.test"))
    assert (world.ordered, world.told) == ([], [])
    await bot.obey(Heard(2, LENA, CHAT, 2, "/pause@mailfleet_bot anna@acme.test"))
    await bot.obey(Heard(3, LENA, CHAT, 3, "/pause"))
    await bot.obey(Heard(4, LENA, CHAT, 4, "/dance"))
    assert world.ordered == [("anna@acme.test", "lena (7)")]
    assert world.told == ["anna@acme.test is paused", "write /pause and a mailbox", "I know /pause, /ack"]


async def test_an_order_whose_answer_cannot_be_given_is_carried_out_once_and_ends_nothing(world: World) -> None:
    bot, private = world.bot(), 7007
    world.server.blocked.add(private)
    await bot.obey(Heard(1, LENA, private, 1, "/pause anna@acme.test"))
    assert world.ordered == [("anna@acme.test", "lena (7)")]


ORDERS = ["anna@acme.test", "bert@acme.test", "carl@acme.test"]


async def _listens_until(bot: Teller, over: Callable[[], bool]) -> None:
    """Let a bot listen until then, or until it dies."""
    listening = asyncio.create_task(bot.listen())
    async with asyncio.timeout(20):
        while not (over() or listening.done()):  # noqa: ASYNC110 - the server's state, not an event of ours
            await asyncio.sleep(0.01)
    listening.cancel()
    with suppress(asyncio.CancelledError, Killed):
        await listening


@pytest.mark.parametrize("breaths", range(13))
async def test_a_bot_that_is_killed_repeats_no_order_but_the_one_that_was_under_way(world: World, breaths: int) -> None:
    """One batch of orders; killed before or after any call, in an order, before or after it is noted as heard."""
    for name in ORDERS:
        world.server.person_says(f"/pause {name}")
    life = Life(breaths)
    dying = world.bot(MortalTelegram(world.server.url, life))
    under_way: list[str] = []

    async def pause(rest: str, who: str) -> str:
        under_way[:] = [rest]
        answer = await world._pause(rest, who)
        life.breathes()
        under_way.clear()
        return answer

    dying.orders = {"pause": pause}
    await _listens_until(dying, lambda: len(world.ordered) == 3 and not world.server.updates)
    before = [name for name, _ in world.ordered]
    await _listens_until(world.bot(), lambda: not world.server.updates)
    assert list(dict.fromkeys(name for name, _ in world.ordered)) == ORDERS
    again = [name for name, _ in world.ordered][len(before) :]
    assert set(again) & set(before) <= set(before[-1:]), "at most the last one"
    if life.left:
        assert again == []


async def test_an_order_whose_answer_is_put_off_is_carried_out_once_and_answered_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tell_people, "LISTEN_AGAIN_S", 0.02)
    world.server.person_says("/pause anna@acme.test")
    world.server.hear_only = True
    bot = world.bot()
    listening = asyncio.create_task(bot.listen())
    async with asyncio.timeout(20):
        while world.server.calls.count("sendMessage") < 3:  # noqa: ASYNC110 - the server's state
            await asyncio.sleep(0.01)
        world.server.hear_only = False
        world.server.person_says("/pause")
        while len(world.told) < 2:  # noqa: ASYNC110 - the server's state
            await asyncio.sleep(0.01)
    listening.cancel()
    with suppress(asyncio.CancelledError):
        await listening
    assert world.ordered == [("anna@acme.test", "lena (7)")]
    assert world.told == ["anna@acme.test is paused", "write /pause and a mailbox"]


def _quiet_hours(quiet: Quiet, first: datetime, hours: int) -> list[str]:
    """The hours (UTC) of this time in which it is quiet."""
    every = (first + timedelta(hours=n) for n in range(hours))
    return [f"{at:%d.%H}" for at in every if quiet.holds(at)]


def test_a_quiet_night_ends_at_its_local_hour_also_when_the_clocks_change() -> None:
    quiet = Quiet(22, 7, "Europe/Berlin")
    spring = _quiet_hours(quiet, datetime(2026, 3, 28, 12, tzinfo=UTC), 24)
    assert (spring[0], spring[-1], len(spring)) == ("28.21", "29.04", 8), "22:00 CET to 07:00 CEST, an hour shorter"
    autumn = _quiet_hours(quiet, datetime(2026, 10, 24, 12, tzinfo=UTC), 24)
    assert (autumn[0], autumn[-1], len(autumn)) == ("24.20", "25.05", 10), "22:00 CEST to 07:00 CET, an hour longer"


def test_a_quiet_hour_that_the_clocks_leave_out_or_repeat_is_so_too() -> None:
    quiet = Quiet(2, 3, "Europe/Berlin")
    assert _quiet_hours(quiet, datetime(2026, 3, 28, 12, tzinfo=UTC), 24) == []
    assert _quiet_hours(quiet, datetime(2026, 10, 24, 12, tzinfo=UTC), 24) == ["25.00", "25.01"]


@pytest.mark.parametrize("day", [datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 10, 25, tzinfo=UTC)])
async def test_when_the_clocks_change_what_waited_is_told_and_the_digest_comes_once(
    world: World, day: datetime
) -> None:
    async def text() -> str:
        return "the digest"

    world.now = day - timedelta(hours=1)
    world.raises("mailbox_unhealthy/anna")
    bot = world.bot()
    bot.digest = Digest(text)
    bot.audience = Audience(CHAT, {}, Quiet(22, 7, "Europe/Berlin"), gap_s=0)
    bot.board = Board(bot.audience.quiet)
    seven, told = None, []
    for quarter in range(4 * 12):
        world.now = day + timedelta(minutes=15 * quarter)
        await tells_all(bot)
        told.append(len(world.told))
        if seven is None and world.told:
            seven = world.now
    assert seven == day + timedelta(hours=5 if day.month == 3 else 6)
    assert told[-1] == 2
    assert world.told[1] == "the digest"


async def test_a_pressed_button_notes_who_looks_after_it_and_the_message_says_so(world: World) -> None:
    world.raises("route_out/own", "critical")
    world.now += timedelta(minutes=1)
    bot = world.bot()
    await tells_all(bot)
    _, message = world.server.messages.values()
    world.server.person_presses(message)
    for heard in await bot.telegram.hear(0):
        await bot.obey(heard)
    await tells_all(bot)
    assert any(isinstance(fact, AlertAcknowledged) and fact.by == "lena (7)" for fact in world.facts())
    assert "seen by lena (7)" in message.text
    assert message.buttons is None
    assert world.server.answers == ["noted"]


async def test_the_digest_comes_once_a_day_also_when_the_bot_starts_anew(world: World) -> None:
    async def text() -> str:
        return "yesterday: 34,120 mails"

    world.now = NOON.replace(hour=7)
    bot = world.bot()
    bot.digest = Digest(text)
    await tells_all(bot)
    assert world.told == []
    world.now = NOON.replace(hour=8)
    await tells_all(bot)
    again = world.bot()
    again.digest = Digest(text)
    await tells_all(again)
    assert world.told == ["yesterday: 34,120 mails"]


async def test_a_wrong_token_is_told_without_the_token(world: World) -> None:
    telegram = Telegram("123456:wrong", world.server.url)
    with pytest.raises(TelegramRefused) as refused:
        await telegram.say(CHAT, "hello")
    assert "wrong" not in str(refused.value)
    await telegram.close()


async def test_a_running_bot_tells_and_listens_until_it_is_stopped(world: World) -> None:
    world.raises("route_out/own", "critical", at=NOON - timedelta(minutes=1))
    beats = asyncio.Event()

    async def beat() -> None:
        beats.set()

    bot = world.bot()
    bot.heartbeat = beat
    world.server.person_says("/pause anna@acme.test")
    running_bot = asyncio.create_task(bot.run())
    async with asyncio.timeout(10):
        while len(world.told) < 2:
            await world.server.said.wait()
            world.server.said.clear()
        await beats.wait()
        bot.stop()
        await running_bot
    assert world.ordered == [("anna@acme.test", "lena (7)")]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=20))
def test_every_alert_is_told_by_exactly_one_message_in_the_order_in_which_they_began(
    told: list[tuple[str, bool]],
) -> None:
    board = Board(Quiet(0, 0))
    for offset, (name, over) in enumerate(told):
        fact = AlertResolved(ACME, f"k/{name}", "ok") if over else AlertRaised(ACME, f"k/{name}", "info", name, "", "r")
        board.heard(offset, NOON, fact)
    found = board.new(NOON + timedelta(hours=1))
    offsets = [story.offset for story in found[1]] if found else []
    assert offsets == sorted(offsets)
    going_on: set[str] = set()
    begun = 0
    for name, over in told:
        begun += not over and name not in going_on
        (going_on.discard if over else going_on.add)(name)
    assert len(offsets) == begun
