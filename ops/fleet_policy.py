"""The policy in a fleet file: [policy] for all, [clients.NAME.policy] over it; what is wrong; its version."""

import hashlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import orjson

from schemas.policy import Policy


def read_policy(for_all: Mapping[str, Any], of_client: Mapping[str, Any]) -> tuple[list[str], Policy]:
    """Return what is wrong (each line begins with the place within the policy) and the policy with its version."""
    values = _over(for_all, of_client)
    unknown = [f".{name} is not a setting" for name in _unknown(values)]
    try:
        policy = msgspec.convert(values, Policy)
    except msgspec.ValidationError as error:
        return [*unknown, f": {error}"], Policy()
    named = msgspec.structs.replace(policy, version=_version(policy, str(values.get("version", ""))))
    return [*unknown, *_senseless(policy)], named


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    both = dict(below)
    for name, value in above.items():
        old = both.get(name)
        both[name] = _over(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return both


def _unknown(values: Mapping[str, Any]) -> Iterator[str]:
    for name, value in values.items():
        if name not in Policy.__struct_fields__:
            yield name
        elif isinstance(value, dict) and name != "version":
            known = type(getattr(Policy(), name)).__struct_fields__
            yield from (f"{name}.{key}" for key in value if key not in known)


def _version(policy: Policy, given: str) -> str:
    """A version names one content: the given name, if any, with the beginning of the content's hash."""
    raw = orjson.dumps(_whole(msgspec.structs.replace(policy, version="")), option=orjson.OPT_SORT_KEYS)
    digest = hashlib.sha256(raw).hexdigest()[:8]
    return f"{given}-{digest}" if given else digest


def _whole(value: Any) -> Any:
    """Return a struct as plain values, defaults told: a default that changes changes the version."""
    if isinstance(value, msgspec.Struct):
        return {name: _whole(inner) for name, inner in msgspec.structs.asdict(value).items()}
    return value


RATES = ("rate", "share")
TIMES = ("hours", "days", "minutes")
MOST_OF_TIME, MOST = 10_000, 10_000_000
"""Beyond these a sum of times leaves the calendar, or a number is a slip of the pen."""
DIVIDE = ("rest_every_days", "speed_minutes")
"""How often something is done: 0 is no time between."""


def _senseless(policy: Policy) -> Iterator[str]:
    for part in Policy.__struct_fields__[1:]:
        section = getattr(policy, part)
        for name, value in msgspec.structs.asdict(section).items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                continue
            most = MOST_OF_TIME if any(word in name for word in TIMES) else MOST
            if not math.isfinite(value):
                yield f".{part}.{name} must be a finite number: a rule that is held against {value} never speaks"
            elif value < 0:
                yield f".{part}.{name} must not be negative"
            elif value < 1 and name in DIVIDE:
                yield f".{part}.{name} must be at least 1"
            elif value > most:
                yield f".{part}.{name} must be at most {most}"
            elif isinstance(value, float) and value > 1 and any(word in name for word in RATES):
                yield f".{part}.{name} is a share of 1: {value / 100:g} is {value:g} %"
    warm = policy.warm_up
    if min(warm.start_per_day, warm.domain_start_per_day, warm.target_per_day) < 1:
        yield ".warm_up: start_per_day, domain_start_per_day and target_per_day must be at least 1"
    if max(warm.growth, warm.domain_growth) > 10:
        yield ".warm_up: growth must be at most 10"
    for receiver, ceiling in policy.receivers.ceilings_24h.items():
        if ceiling < 0:
            yield f".receivers.ceilings_24h.{receiver} must not be negative; 0 is none"
    if min(warm.growth, warm.domain_growth) < 1 or warm.days_at_least < 1:
        yield ".warm_up: growth must be at least 1.0 and days_at_least at least 1"
    if policy.health.watched_share <= 0:
        yield ".health.watched_share must be above 0: a sender that may send nothing is out"
    told = policy.reputation
    if not 0 < told.gmail_spam_rate_watch <= told.gmail_spam_rate_out:
        yield ".reputation: gmail_spam_rate_watch must be above 0 and at most gmail_spam_rate_out"
    if policy.rotation.rest_days > 3:
        yield ".rotation.rest_days must be at most 3"
