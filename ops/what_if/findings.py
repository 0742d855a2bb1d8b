"""What a study comes to: who was out when, what was held back, how far the rerun is to be trusted."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from ops.sentences import held as said
from ops.what_if.policy_file import changed
from ops.what_if.study import WORDS, Column, Study, Word
from schemas.fleet import ReceiverThrottled, RouteTripped
from schemas.health import GateClosed, GateOpened, HealthChanged, ListChanged
from schemas.ids import ClientId
from schemas.registry import TYPE_OF, Fact
from streams.fleet.state import LOOK_AT_WATCHED

SAME_WITHIN = LOOK_AT_WATCHED + timedelta(minutes=1)
"""Two decisions are the same one when they agree in all but numbers and times, and lie so near to each other: a
watched sender is looked at every 15 minutes, counted from the last start of its process."""
CANNOT_KNOW = (
    "A mail that is held back goes to no other mailbox here; the fleet would give many of them to one that is open. "
    "So what is lost is the most that could be lost, and a dead address may bounce from another mailbox instead. In "
    "its list's canary it keeps its place.",
    "Mail that a laxer policy would have sent in addition was never sent: its bounces are nobody's to know.",
    "All else stays as it was: the outcomes of other mails, DNS, outages, and what people ordered. Nobody resumes "
    "what only the other policy paused until a person acts.",
)


class Pause(NamedTuple):
    """A sender that was out of rotation, or a list that was held; `until` None: to the end of the period."""

    client: ClientId
    scope: str  # mailbox, domain, route, client, list, gate
    name: str
    since: datetime
    until: datetime | None
    rule: str
    evidence: str
    before: bool = False  # it began before the period

    @property
    def who(self) -> tuple[ClientId, str, str]:
        """Whom it concerns."""
        return self.client, self.scope, self.name


def pauses(study: Study, column: Column) -> list[Pause]:
    """Return the pauses that a policy made, in order of time; those that were there at the begin first."""
    open_: dict[tuple[ClientId, str, str], Pause] = {}
    for out in study.out_at_begin:
        began = out.since or study.begin
        found = Pause(out.client, out.scope, out.name, began, None, out.rule, out.rule, before=True)
        open_[found.who] = found
    done: list[Pause] = []
    for at, fact in sorted(column.decided, key=lambda one: one[0]):
        change = _change(fact, at)
        if change is None:
            continue
        who, begun = change
        if begun is None and who in open_:
            done.append(open_.pop(who)._replace(until=at))
        elif begun is not None:
            open_.setdefault(who, begun)
    return sorted([*done, *open_.values()], key=lambda pause: (pause.since, pause.who))


def _change(fact: Fact, at: datetime) -> tuple[tuple[ClientId, str, str], Pause | None] | None:
    """Return whom a decision takes out (with the pause) or lets back (with None)."""
    match fact:
        case HealthChanged():
            found = Pause(fact.client, fact.scope, fact.name, at, None, fact.evidence.rule, said(fact.evidence))
            out = fact.now == "unhealthy"
        case ListChanged():
            found = Pause(fact.client, "list", fact.list_id, at, None, fact.evidence.rule, said(fact.evidence))
            out = fact.now == "held"
        case GateClosed() | GateOpened():
            name = f"{fact.domain} {fact.check}" + (f" over {fact.route}" if fact.route else "")
            found = Pause(fact.client, "gate", name, at, None, fact.evidence.rule, said(fact.evidence))
            out = isinstance(fact, GateClosed)
        case _:
            return None
    return found.who, found if out else None


# ── what was held back ───────────────────────────────────────────────────────────────────────────


@dataclass
class Sums:
    """Mails and what came of them: as recorded, and of those what each policy holds back."""

    recorded: Counter[Word] = field(default_factory=Counter)
    then: Counter[Word] = field(default_factory=Counter)
    what_if: Counter[Word] = field(default_factory=Counter)

    def as_dict(self) -> dict[str, dict[str, int]]:
        """Return the sums for programs."""
        rows = (("recorded", self.recorded), ("held_by_recorded_policy", self.then), ("held_by_other", self.what_if))
        return {name: {word: counts[word] for word in WORDS} for name, counts in rows}


def sums(study: Study, by: str) -> dict[str, Sums]:
    """Return the sums by "client", "mailbox" or "day", in the order of the names."""
    made: dict[str, Sums] = defaultdict(Sums)
    for counter, name in ((study.recorded, "recorded"), (study.then.held, "then"), (study.what_if.held, "what_if")):
        for (mail, word), count in counter.items():
            getattr(made[getattr(mail, by)], name)[word] += count
    return dict(sorted(made.items()))


def total(study: Study) -> Sums:
    """Return the sums over everything."""
    made = Sums()
    for one in sums(study, "client").values():
        for mine, more in ((made.recorded, one.recorded), (made.then, one.then), (made.what_if, one.what_if)):
            mine.update(more)
    return made


# ── how far it is to be trusted ──────────────────────────────────────────────────────────────────


@dataclass
class Fidelity:
    """The policy of then, run again, against what the journal says was decided then: by kind (same, only recorded,
    only rerun), and of the recorded mails those it would hold back."""

    kinds: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    mails: int = 0
    held: int = 0
    differences: list[str] = field(default_factory=list)

    @property
    def decisions(self) -> float:
        """The share of all decisions, recorded or made again, that both have; 1 when there are none."""
        same = sum(kind[0] for kind in self.kinds.values())
        every = sum(sum(kind) for kind in self.kinds.values())
        return same / every if every else 1.0

    @property
    def sends(self) -> float:
        """The share of the recorded mails that the policy of then lets go again; 1 when there are none."""
        return 1 - self.held / self.mails if self.mails else 1.0

    def as_dict(self) -> dict[str, Any]:
        """Return the figures for programs."""
        kinds = {
            name: {"same": same, "only_recorded": gone, "only_rerun": new}
            for name, (same, gone, new) in self.kinds.items()
        }
        shares = {"decisions": round(self.decisions, 4), "mails": round(self.sends, 4)}
        return {**shares, "by_kind": kinds, "mails_held": self.held, "differences": self.differences}


def fidelity(study: Study) -> Fidelity:
    """Compare the rerun under the policy of then with the recorded decisions."""
    made, sums_ = Fidelity(), total(study)
    made.mails, made.held = sums_.recorded["mails"], sums_.then["mails"]
    recorded, again = _by_key(study.decided), _by_key(study.then.decided)
    kinds: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for key in sorted(recorded.keys() | again.keys()):
        same, gone, new = _paired(recorded.get(key, []), again.get(key, []))
        for place, count in enumerate((same, len(gone), len(new))):
            kinds[key[0]][place] += count
        for word, times in (("only in the journal", gone), ("only in the rerun", new)):
            made.differences += [f"{at:%Y-%m-%d %H:%M} {' '.join(filter(None, key))}: {word}" for at in times]
    made.kinds = {name: (same, gone, new) for name, (same, gone, new) in sorted(kinds.items())}
    made.differences.sort()
    return made


def _by_key(decided: Iterable[tuple[datetime, Fact]]) -> dict[tuple[str, ...], list[datetime]]:
    found: dict[tuple[str, ...], list[datetime]] = defaultdict(list)
    for at, fact in sorted(decided, key=lambda one: one[0]):
        found[TYPE_OF[type(fact)], *_who(fact)].append(at)
    return found


def _who(fact: Fact) -> Iterator[str]:
    for name in ("client", "scope", "name", "mailbox", "domain", "route", "receiver", "check", "list_id", "was", "now"):
        yield str(getattr(fact, name, ""))
    yield (
        fact.rule
        if isinstance(fact, RouteTripped | ReceiverThrottled)
        else str(getattr(getattr(fact, "evidence", None), "rule", ""))
    )


def _paired(one: list[datetime], other: list[datetime]) -> tuple[int, list[datetime], list[datetime]]:
    """Return how many pairs lie near enough to each other, and what is left of both."""
    left, gone = list(other), []
    for at in one:
        near = next((when for when in left if abs(when - at) <= SAME_WITHIN), None)
        if near is None:
            gone.append(at)
        else:
            left.remove(near)
    return len(one) - len(gone), gone, left


# ── for programs ─────────────────────────────────────────────────────────────────────────────────


def as_dict(study: Study) -> dict[str, Any]:
    """Return everything that was found out."""
    both = {name: pauses(study, column) for name, column in study.columns}
    return {
        "from": study.begin,
        "until": study.until,
        "entries": study.in_period,
        "policies": {client: _policies(study, client) for client in study.clients},
        "policies_applied_meanwhile": study.applied,
        "fidelity": fidelity(study).as_dict(),
        "total": total(study).as_dict(),
        "clients": {name: one.as_dict() for name, one in sums(study, "client").items()},
        "mailboxes": {name: one.as_dict() for name, one in sums(study, "mailbox").items()},
        "days": {name: one.as_dict() for name, one in sums(study, "day").items()},
        "held_by_limit": {
            name: [{"client": c, "limit": limit, "mails": n} for (c, limit), n in sorted(column.limits.items())]
            for name, column in study.columns
        },
        "pauses": {name: [pause._asdict() for pause in found] for name, found in both.items()},
        "cannot_know": list(CANNOT_KNOW),
    }


def _policies(study: Study, client: ClientId) -> dict[str, Any]:
    then, other = study.policies[client], study.other.of(client)
    return {"recorded": then.version, "other": other.version, "changed": changed(then, other)}
