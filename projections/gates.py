"""Read models `dns_findings`, `dns_history`, `gates`, `lists`, `receiver_use`: what holds sends back beside health."""

from collections.abc import Iterable

from projections.read_model import Place, Statement
from schemas.dns import DomainObserved
from schemas.health import GateClosed, GateOpened, ListChanged, ListSignCounted
from schemas.registry import Fact
from schemas.sending import SendAssigned, SendEnded, SendRequeued

_TURN = """
insert into dns_history (client, domain, route, check_name, verdict, evidence, resolver, looked_at, partition, seq, n)
select %(client)s, %(domain)s, %(route)s, %(check)s, %(verdict)s, %(evidence)s, %(resolver)s, %(looked_at)s,
    %(partition)s, %(seq)s, %(n)s
where not exists (
    select from dns_findings where client = %(client)s and domain = %(domain)s and route = %(route)s
        and check_name = %(check)s and verdict = %(verdict)s
)
"""
_FINDING = """
insert into dns_findings (client, domain, route, check_name, verdict, evidence, fix, resolver, looked_at)
values (%(client)s, %(domain)s, %(route)s, %(check)s, %(verdict)s, %(evidence)s, %(fix)s, %(resolver)s, %(looked_at)s)
on conflict (client, domain, route, check_name) do update set verdict = excluded.verdict,
    evidence = excluded.evidence, fix = excluded.fix, resolver = excluded.resolver, looked_at = excluded.looked_at
"""
_CLOSE = """
insert into gates (client, domain, route, check_name, closed_at, rule, policy, looks, evidence, fix)
values (%(client)s, %(domain)s, %(route)s, %(check)s, %(at)s, %(rule)s, %(policy)s, %(looks)s, %(evidence)s, %(fix)s)
"""
_OPEN = """
update gates set opened_at = %(at)s, opened_by = %(rule)s
where client = %(client)s and domain = %(domain)s and route = %(route)s and check_name = %(check)s
    and opened_at is null
"""
_LIST = """
insert into lists (client, list_id, state, changed_at, until, rule, policy, numerator, denominator, threshold, said)
values (%(client)s, %(list)s, %(state)s, %(at)s, %(until)s, %(rule)s, %(policy)s, %(numerator)s, %(denominator)s,
    %(threshold)s, %(said)s)
on conflict (client, list_id) do update set state = excluded.state, changed_at = excluded.changed_at,
    until = excluded.until, rule = excluded.rule, policy = excluded.policy, numerator = excluded.numerator,
    denominator = excluded.denominator, threshold = excluded.threshold, said = excluded.said
"""
_SIGN = """
insert into lists (client, list_id, state, changed_at, bounced, complained)
values (%(client)s, %(list)s, 'new', %(at)s, %(bounced)s, %(complained)s)
on conflict (client, list_id) do update set bounced = lists.bounced + excluded.bounced,
    complained = lists.complained + excluded.complained
"""
_USE = """
insert into receiver_use (client, organisation, receiver, hour, sends)
values (%(client)s, %(organisation)s, %(receiver)s, date_trunc('hour', %(at)s::timestamptz, 'UTC'), 1)
on conflict (client, organisation, receiver, hour) do update set sends = receiver_use.sends + 1
"""
_BACK = """
update receiver_use set sends = greatest(0, sends - 1) where client = %(client)s
    and organisation = %(organisation)s and receiver = %(receiver)s and hour = %(hour)s::timestamptz
"""


def project(fact: Fact, place: Place) -> Iterable[Statement]:
    """Yield what the fact changes."""
    match fact:
        case DomainObserved():
            yield from _looks(fact, place)
        case GateClosed():
            why = fact.evidence
            told = {"policy": why.policy, "looks": int(why.numerator), "evidence": why.said, "fix": fact.fix}
            yield _CLOSE, _gate(fact, place) | told
        case GateOpened():
            yield _OPEN, _gate(fact, place)
        case ListChanged():
            yield _LIST, _list(fact, place)
        case ListSignCounted():
            counted = {"bounced": int(fact.sign == "hard_bounce"), "complained": int(fact.sign == "complaint")}
            yield _SIGN, counted | {"client": fact.client, "list": fact.list_id, "at": place.at}
        case SendAssigned() if fact.bucket:
            yield _USE, _bucket(fact.ref.client, fact.bucket) | {"at": place.at}
        case SendRequeued() | SendEnded() if fact.release is not None and fact.release.gave_back:
            if fact.release.bucket:
                hour = f"{fact.release.hour}:00:00Z"
                yield _BACK, _bucket(fact.ref.client, fact.release.bucket) | {"hour": hour}


def _looks(fact: DomainObserved, place: Place) -> Iterable[Statement]:
    where = {"client": fact.client, "domain": fact.domain, "route": fact.route, "resolver": fact.resolver}
    stands = {"looked_at": fact.observed_at, "partition": place.partition, "seq": place.seq, "n": place.n}
    for found in fact.findings:
        said = {"check": found.check, "verdict": found.verdict, "evidence": found.evidence, "fix": found.fix}
        yield _TURN, where | stands | said
        yield _FINDING, where | stands | said


def _gate(fact: GateClosed | GateOpened, place: Place) -> dict[str, object]:
    where = {"client": fact.client, "domain": fact.domain, "route": fact.route, "check": fact.check}
    return {**where, "at": place.at, "rule": fact.evidence.rule}


def _list(fact: ListChanged, place: Place) -> dict[str, object]:
    why = fact.evidence
    numbers = {"numerator": why.numerator, "denominator": why.denominator, "threshold": why.threshold}
    told = {"rule": why.rule, "policy": why.policy, "said": why.said}
    where = {"client": fact.client, "list": fact.list_id, "state": fact.now, "until": fact.until, "at": place.at}
    return {**where, **numbers, **told}


def _bucket(client: str, bucket: str) -> dict[str, object]:
    organisation, _, receiver = bucket.partition("/")
    return {"client": client, "organisation": organisation, "receiver": receiver}
