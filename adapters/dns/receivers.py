"""Who receives a domain's mail: known providers by a list, all others by the domain's MX, asked within a second.

Nobody waits for a resolver that is slow or down: what is not answered in time is "unknown", and while the resolver
answers nothing at all it is asked only now and then.
"""

import asyncio
import time
import tomllib
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from adapters.dns.resolver import NameInvalid, Resolver, Unanswered
from schemas.ids import DomainName

WAIT_S = 1.0  # for a whole batch
REST_S = 30.0  # after a batch that nothing was answered of
KEPT_S = 7 * 24 * 3600.0
KEPT_UNANSWERED_S = 600.0
REMEMBERED = 50_000  # domains, about 200 bytes each
AT_ONCE = 50
UNKNOWN = "unknown"
SECOND_LEVEL = frozenset({"ac", "co", "com", "edu", "gov", "ne", "net", "or", "org"})


def _lists() -> tuple[dict[str, str], dict[str, str]]:
    data = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
    return tuple({end: name for name, ends in data[part].items() for end in ends} for part in ("domains", "servers"))  # type: ignore[return-value]  # two parts


DOMAINS, SERVERS = _lists()
"""Domain → provider, end of an MX host's name → provider."""


def by_list(domain: str) -> str:
    """Return the provider whose own domain it is, "" for any other."""
    return DOMAINS.get(domain, "")


def by_servers(hosts: Iterable[str], domain: str) -> str:
    """Return who runs the first server of a domain's MX: a known provider, else the server's own domain.

    A domain without MX, or with the null MX, receives (or not) by itself.
    """
    host = next((h for h in hosts if h), "") or domain
    labels = host.split(".")
    for start in range(len(labels)):
        found = SERVERS.get(".".join(labels[start:]))
        if found is not None:
            return found
    wide = len(labels) > 2 and len(labels[-1]) == 2 and labels[-2] in SECOND_LEVEL
    return ".".join(labels[-3 if wide else -2 :])


class KnownReceivers:
    """The list alone: nobody is asked."""

    async def of(self, domains: Collection[DomainName]) -> Mapping[DomainName, str]:
        """Return the provider of each domain, "" for one that is not on the list."""
        return {domain: by_list(domain) for domain in domains}


class MxReceivers:
    """The list, then the MX. `now` is a clock in seconds that never goes back."""

    def __init__(self, resolvers: Collection[Resolver], now: Callable[[], float] = time.monotonic) -> None:
        self._resolvers = tuple(Resolver(r.address, r.port, WAIT_S) for r in resolvers)
        self._now = now
        self._known: OrderedDict[DomainName, tuple[float, str]] = OrderedDict()
        self._rests_until = float("-inf")
        self._turn = 0

    async def of(self, domains: Collection[DomainName]) -> Mapping[DomainName, str]:
        """Return the provider of each domain, within about a second; never raises."""
        found = {domain: by_list(domain) or self._recall(domain) for domain in domains}
        missing = [domain for domain, receiver in found.items() if not receiver]
        if missing and self._now() >= self._rests_until:
            found |= await self._look_up(missing)
        return {domain: receiver or UNKNOWN for domain, receiver in found.items()}

    def _recall(self, domain: DomainName) -> str:
        until, receiver = self._known.get(domain, (float("-inf"), ""))
        return receiver if self._now() < until else ""

    async def _look_up(self, domains: Collection[DomainName]) -> dict[DomainName, str]:
        self._turn += 1
        resolver = self._resolvers[self._turn % len(self._resolvers)]
        at_once = asyncio.Semaphore(AT_ONCE)
        tasks = {domain: asyncio.create_task(self._ask(resolver, at_once, domain)) for domain in domains}
        await asyncio.wait(tasks.values(), timeout=WAIT_S)
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        answered = {domain: task.result() for domain, task in tasks.items() if not task.cancelled() and task.result()}
        if not answered:
            self._rests_until = self._now() + REST_S
        for domain in domains:
            self._keep(domain, answered.get(domain, ""))
        return answered

    async def _ask(self, resolver: Resolver, at_once: asyncio.Semaphore, domain: DomainName) -> str:
        async with at_once:
            try:
                records = [mx.split() for mx in await resolver.ask(domain, "MX")]
            except (Unanswered, NameInvalid):
                return ""
        hosts = [host.rstrip(".").lower() for _, host in sorted(records, key=lambda mx: (int(mx[0]), mx[1]))]
        return by_servers(hosts, domain)

    def _keep(self, domain: DomainName, receiver: str) -> None:
        self._known[domain] = (self._now() + (KEPT_S if receiver else KEPT_UNANSWERED_S), receiver or UNKNOWN)
        self._known.move_to_end(domain)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
