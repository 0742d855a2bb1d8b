"""A period of the fleet's journal beside two reruns of it: the policy of then, and the other one."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NamedTuple

from ops.journals import Nowhere
from ops.what_if.policy_file import OtherPolicy
from ops.what_if.rerun import TICK_FOLLOWS, TOLD, AttemptName, Rerun, name_of
from schemas.entry import Entry
from schemas.fleet import ClientDeclared
from schemas.ids import ClientId, MailboxAddress
from schemas.policy import Policy, PolicyApplied
from schemas.registry import TYPE_OF, Fact, fact_in
from schemas.reports import SendComplained
from schemas.sending import AttemptAccepted, AttemptRefused, SendAssigned, SendBounced, SendLapsed, WaitLimit
from streams.fleet.health import sign_of
from streams.fleet.mind import FleetMind
from streams.fleet.state import BUILT_IN, SenderRow, split_sender
from streams.log.rows import Rows
from streams.log.stage import fold

Word = Literal["mails", "accepted", "hard_bounces", "complaints", "blocks", "deferrals"]
"""`mails` are assignments; what became of them counts for the day they were assigned on."""
WORDS: tuple[Word, ...] = ("mails", "accepted", "hard_bounces", "complaints", "blocks", "deferrals")
OF_SIGN: dict[str, Word] = {"hard_bounce": "hard_bounces", "block": "blocks", "deferral": "deferrals"}
WANTED = frozenset(TYPE_OF[kind] for kind in (SendAssigned, SendLapsed, *TOLD))
"""What of a recorded entry's decisions is read; all else is decided anew."""


class Mail(NamedTuple):
    """Whose mail an assignment was: of which client, from which mailbox, on which of its local days."""

    client: ClientId
    mailbox: MailboxAddress
    day: str


class Out(NamedTuple):
    """A sender that was unhealthy when the period began."""

    client: ClientId
    scope: str
    name: str
    since: datetime | None
    until: datetime | None
    rule: str


@dataclass
class Column:
    """One policy's outcome: what was held back and with it what came of that, why, and every decision."""

    held: Counter[tuple[Mail, Word]] = field(default_factory=Counter)
    limits: Counter[tuple[ClientId, WaitLimit]] = field(default_factory=Counter)
    decided: list[tuple[datetime, Fact]] = field(default_factory=list)


@dataclass
class Study:
    """What is found out, over all partitions. `first` and `last` are the times of the journal's entries."""

    begin: datetime
    end: datetime | None
    other: OtherPolicy
    recorded: Counter[tuple[Mail, Word]] = field(default_factory=Counter)
    decided: list[tuple[datetime, Fact]] = field(default_factory=list)  # as the journal has it
    then: Column = field(default_factory=Column)
    what_if: Column = field(default_factory=Column)
    policies: dict[ClientId, Policy] = field(default_factory=dict)  # of then: at the begin, else the first
    applied: int = 0  # policies that were applied within the period: the other one stands above them
    out_at_begin: list[Out] = field(default_factory=list)
    in_period: int = 0
    first: datetime | None = None
    last: datetime | None = None

    @property
    def columns(self) -> tuple[tuple[str, Column], ...]:
        """Both, the policy of then first."""
        return ("recorded", self.then), ("other", self.what_if)

    @property
    def until(self) -> datetime:
        """The end of what was looked at."""
        return self.end or self.last or self.begin

    @property
    def clients(self) -> list[ClientId]:
        """The clients that the journal knows."""
        return sorted(self.policies)


class Past:
    """One partition of the fleet's journal, read entry by entry into a study."""

    def __init__(self, study: Study, partition: int = 0) -> None:
        self._study = study
        self._mind = FleetMind()
        self._rows = Rows(Nowhere(), partition, self._mind.row_types)
        self._state = self._mind.open(self._rows)
        self._then: Rerun | None = None
        self._other: Rerun | None = None
        self._attempts: dict[AttemptName, Mail] = {}
        self._last = study.begin

    def entry(self, entry: Entry) -> bool:
        """Take an entry that counts; return False when the period is over and nothing more is wanted."""
        study = self._study
        study.first = min(study.first or entry.at, entry.at)
        study.last = max(study.last or entry.at, entry.at)
        if study.end is not None and entry.at >= study.end:
            return False
        if entry.at < study.begin:
            fold(self._mind, self._rows, self._state, entry, [fact_in(one) for one in entry.decided])
            return True
        study.in_period += 1
        seen, decided = fact_in(entry.seen), [fact_in(one) for one in entry.decided if one.type in WANTED]
        for rerun in self._reruns():
            rerun.see(entry.at, seen, decided)
        for fact in decided:
            self._was_decided(entry.at, fact)
        self._was_seen(seen)
        self._last = entry.at
        return True

    def close(self) -> None:
        """Let time pass to the end of the period and add up what both policies came to."""
        if self._then is None:  # the partition has nothing in the period
            return
        for rerun, (_, column) in zip(self._reruns(), self._study.columns, strict=True):
            rerun.pass_time(self._study.end or self._last + TICK_FOLLOWS)
            column.decided += rerun.decided
            column.limits.update(rerun.limits)

    def _reruns(self) -> tuple[Rerun, Rerun]:
        if self._then is None or self._other is None:
            begin = self._study.begin
            self._then = Rerun(self._rows, begin)
            self._other = Rerun(self._rows, begin, self._study.other.of)
            self._look_at_begin()
        return self._then, self._other

    def _look_at_begin(self) -> None:
        for (kind, name), row in self._rows.all():
            if kind == "client":
                self._study.policies[ClientId(name)] = self._policy_of_then(ClientId(name))
            elif isinstance(row, SenderRow) and row.state == "unhealthy":
                scope, client, sender = split_sender(name)
                self._study.out_at_begin.append(Out(client, scope, sender, row.since, row.until, row.rule))

    def _policy_of_then(self, client: ClientId) -> Policy:
        return self._reruns()[0].state.policy(client)

    def _was_decided(self, at: datetime, fact: Fact) -> None:
        if isinstance(fact, SendAssigned):
            name = fact.ref.client, fact.ref.send_id, fact.attempt
            self._attempts[name] = Mail(fact.ref.client, fact.sender.mailbox, fact.quota_day)
            self._count(name, "mails")
        elif isinstance(fact, TOLD):
            self._study.decided.append((at, fact))

    def _was_seen(self, seen: Fact) -> None:
        name, word = name_of(seen), _word(seen)
        if name is not None and word is not None:
            self._count(name, word)
        if isinstance(seen, ClientDeclared):
            self._study.policies.setdefault(seen.client, self._policy_of_then(seen.client))
        elif isinstance(seen, PolicyApplied):
            self._study.applied += 1
            if self._study.policies.get(seen.client) == BUILT_IN:
                self._study.policies[seen.client] = seen.policy

    def _count(self, name: AttemptName, word: Word) -> None:
        """Count for the recorded past, and for each policy that held the attempt back."""
        mail = self._attempts.get(name)
        if mail is None:  # assigned before the period
            return
        self._study.recorded[mail, word] += 1
        for rerun, (_, column) in zip(self._reruns(), self._study.columns, strict=True):
            if name in rerun.held:
                column.held[mail, word] += 1


def _word(seen: Fact) -> Word | None:
    match seen:
        case AttemptAccepted():
            return "accepted"
        case SendComplained():
            return "complaints"
        case AttemptRefused() | SendBounced():
            return OF_SIGN.get(sign_of(seen.verdict))
        case _:
            return None
