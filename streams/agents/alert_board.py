"""Which messages people should see: alerts grouped, quiet at night, each message edited as its story goes on.

No clock and no network here: the teller (tell_people.py) brings facts and the time, and does what is due.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from schemas.health import AlertRaised, AlertResolved
from schemas.telling import AlertAcknowledged, AlertPosted, AlertPosting

SIGNS = {"info": "ℹ️", "warning": "🟠", "critical": "🔴"}
GROUPED_FOR = {"info": timedelta(minutes=5), "warning": timedelta(seconds=30), "critical": timedelta(seconds=5)}
"""How long the first alert of a kind waits for others of its kind."""
MOST_LINES = 12
LONGEST_TEXT = 3_900
"""UTF-16 units, as Telegram counts; it takes 4,096 (Bot API, sendMessage)."""


@dataclass(frozen=True)
class Quiet:
    """The hours in which only what is critical is told; from == to is never."""

    hour_from: int = 22
    hour_to: int = 7
    zone: str = "UTC"

    def holds(self, at: datetime) -> bool:
        """Whether it is night."""
        hour = at.astimezone(ZoneInfo(self.zone)).hour
        if self.hour_from <= self.hour_to:
            return self.hour_from <= hour < self.hour_to
        return hour >= self.hour_from or hour < self.hour_to


@dataclass
class Story:
    """One alert from its first word to its last."""

    offset: int
    at: datetime
    raised: AlertRaised
    times: int = 1
    resolved: str = ""
    resolved_at: datetime | None = None
    post: str = ""

    @property
    def kind(self) -> tuple[str, str, str]:
        """What it is grouped by."""
        return self.raised.severity, self.raised.client, self.raised.alert.partition("/")[0]


@dataclass
class Post:
    """One message: the stories it tells, and what the chat holds of it."""

    id: str
    stories: list[Story] = field(default_factory=list)
    chat: int = 0
    message_id: int = 0  # 0 = not known to be there
    shown: str = ""
    after: int = 0
    seen_by: str = ""


class Board:
    """All stories and messages, folded from topics alerts and alert-posts."""

    def __init__(self, quiet: Quiet) -> None:
        self._quiet = quiet
        self._stories: dict[int, Story] = {}
        self._going_on: dict[tuple[str, str], Story] = {}
        self.posts: dict[str, Post] = {}
        self._last: dict[int, int] = {}  # chat → the newest message known there; chats count by themselves

    # ── facts ────────────────────────────────────────────────────────────────────────────────────

    def heard(self, offset: int, at: datetime, fact: AlertRaised | AlertResolved) -> None:
        """Take a record of topic alerts. The same alert again is the same story going on."""
        key = (fact.client, fact.alert)
        story = self._going_on.get(key)
        if isinstance(fact, AlertResolved):
            if story is not None:
                story.resolved, story.resolved_at = fact.how, at
                del self._going_on[key]
        elif story is not None:
            story.times += 1
            story.raised = fact
        else:
            self._stories[offset] = self._going_on[key] = Story(offset, at, fact)

    def told(self, fact: AlertPosting | AlertPosted | AlertAcknowledged) -> None:
        """Take a record of topic alert-posts."""
        post = self.posts.setdefault(fact.post, Post(fact.post))
        match fact:
            case AlertPosting():
                post.chat, post.shown, post.after = fact.chat, fitted(fact.text), fact.after
                for offset in fact.offsets:
                    story = self._stories.get(offset)
                    if story is not None and not story.post:
                        story.post = post.id
                        post.stories.append(story)
            case AlertPosted():
                post.chat, post.message_id, post.shown = fact.chat, fact.message_id, fact.text
                self.passed(fact.chat, fact.message_id)
            case AlertAcknowledged():
                post.seen_by = fact.by

    def passed(self, chat: int, message: int) -> None:
        """A message of any kind stands in the chat: one of ours that is to come has a higher id."""
        self._last[chat] = max(self.last_message(chat), message)

    def last_message(self, chat: int) -> int:
        """The newest message known in the chat, 0 when none is."""
        return self._last.get(chat, 0)

    # ── what is due ──────────────────────────────────────────────────────────────────────────────

    def unsure(self) -> list[Post]:
        """Messages that may or may not have been sent: a process died in between."""
        return [post for post in self.posts.values() if not post.message_id and post.shown]

    def new(self, now: datetime) -> tuple[str, list[Story]] | None:
        """The next message to be sent, as (post, stories): the oldest group whose time has come."""
        groups: dict[tuple[str, str, str], list[Story]] = {}
        for story in self._stories.values():
            if not story.post:
                groups.setdefault(story.kind, []).append(story)
        for (severity, _, _), stories in groups.items():
            waits = severity != "critical" and self._quiet.holds(now)
            if not waits and now - stories[0].at >= GROUPED_FOR[severity]:
                return str(stories[0].offset), stories
        return None

    def changed(self) -> Post | None:
        """A message whose story has gone on since it was shown."""
        for post in self.posts.values():
            if post.message_id and post.stories and self.text(post) != post.shown:
                return post
        return None

    def text(self, post: Post) -> str:
        """What the message should say now."""
        return text_of(post.stories, post.seen_by)


def text_of(stories: Iterable[Story], seen_by: str = "") -> str:
    """Return the text of a message over these stories; what is too long loses the end of its evidence, not the rest."""
    stories = list(stories)
    first = stories[0].raised
    sign = "✅" if all(story.resolved for story in stories) else SIGNS[first.severity]
    end = f"\nwhat to do: {_runbook(first)}" + (f"\nseen by {seen_by}" if seen_by else "")
    if len(stories) == 1:
        end = _end(stories[0]) + end
        told = f"{sign} {first.client}: {first.title}\n{first.detail}"
    else:
        told = _grouped(sign, stories)
    return fitted(fitted(told, max(1, LONGEST_TEXT - _units(end))) + end)


def _grouped(sign: str, stories: list[Story]) -> str:
    first = stories[0].raised
    kind = first.alert.partition("/")[0].replace("_", " ")
    going_on = sum(not story.resolved for story in stories)
    lines = [f"{sign} {first.client}: {len(stories)} × {kind}" + (f", {going_on} going on" if going_on else "")]
    lines += [f"{'✓' if story.resolved else '•'} {story.raised.title}" for story in stories[:MOST_LINES]]
    if len(stories) > MOST_LINES:
        lines.append(f"and {len(stories) - MOST_LINES} more")
    return "\n".join(lines)


def fitted(text: str, most: int = LONGEST_TEXT) -> str:
    """Return the text, cut where it is longer than `most` UTF-16 units."""
    if _units(text) <= most:
        return text
    return text.encode("utf-16-le", "surrogatepass")[: 2 * (most - 1)].decode("utf-16-le", "ignore") + "…"


def _units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _end(story: Story) -> str:
    if story.resolved_at is not None:
        return f"\nresolved {story.resolved_at:%Y-%m-%d %H:%M} UTC: {story.resolved}"
    return f"\nagain, {story.times} times" if story.times > 1 else ""


def _runbook(raised: AlertRaised) -> str:
    return f"ops/runbooks/{raised.runbook}.md"
