"""Blocklists of addresses and domains, with their operators' manners and codes (RFC 5782).

A list is asked only when it passes its own test points, about once an hour for each name, and never through a
resolver that serves everybody. Only a code that the operator documents is a listing; error codes never are.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from adapters.dns.resolver import Resolver, Unanswered, reverse_name
from schemas.dns import Check, Finding

KEPT_S = 3_000.0
"""Shorter than the hour between two looks at one domain: the second look must be a new answer."""
ERRORS: Mapping[str, str] = {
    "127.255.255.252": "the list's name is mistyped",
    "127.255.255.254": "the resolver is a public one or has a generic name",
    "127.255.255.255": "too many queries",
    "127.0.1.255": "a domain list was asked for an address",
}
"""Spamhaus's answers that are no listing (docs.spamhaus.com, 040-zones, read 2026-10)."""


@dataclass(frozen=True)
class Blocklist:
    """One list. `codes` are last octets within `network`; a mask adds them up."""

    name: str
    zone: str
    of: Literal["ip", "domain"]
    listed: str  # its test point that must be listed, as a name below the zone
    clean: str  # and one that must not be
    codes: Mapping[int, str]
    removal: str
    network: str = "127.0.0."
    mask: bool = False
    refused: int = 0  # the code that says "your query is refused"
    spamhaus: bool = False


_IP_TEST = ("2.0.0.127", "1.0.0.127")
BLOCKLISTS: Mapping[str, Blocklist] = MappingProxyType(
    {
        listing.name: listing
        for listing in (
            Blocklist(
                "zen",
                "zen.spamhaus.org",
                "ip",
                *_IP_TEST,
                {2: "SBL", 3: "CSS", 4: "XBL", 9: "DROP", 10: "PBL", 11: "PBL", 30: "BCL"},
                "check.spamhaus.org",
                spamhaus=True,
            ),
            Blocklist(
                "dbl",
                "dbl.spamhaus.org",
                "domain",
                "dbltest.com",
                "example.com",
                {2: "low reputation", 4: "phishing", 5: "malware", 6: "botnet"}
                | dict.fromkeys(range(102, 107), "abused, legitimate"),
                "check.spamhaus.org",
                network="127.0.1.",
                spamhaus=True,
            ),
            Blocklist("spamcop", "bl.spamcop.net", "ip", *_IP_TEST, {2: "spam"}, "spamcop.net/bl.shtml"),
            Blocklist("psbl", "psbl.surriel.com", "ip", *_IP_TEST, {2: "spam"}, "psbl.org/remove"),
            Blocklist("barracuda", "b.barracudacentral.org", "ip", *_IP_TEST, {2: "spam"}, "barracudacentral.org/rbl"),
            Blocklist(
                "surbl",
                "multi.surbl.org",
                "domain",
                "test.surbl.org",
                "example.com",
                {8: "phishing", 16: "malware", 64: "abuse", 128: "cracked"},
                "surbl.org/surbl-analysis",
                mask=True,
                refused=1,
            ),
            Blocklist(
                "uribl",
                "multi.uribl.com",
                "domain",
                "test.uribl.com",
                "example.com",
                {2: "black", 4: "grey", 8: "red"},
                "admin.uribl.com",
                mask=True,
                refused=1,
            ),
        )
    }
)
"""Barracuda answers registered resolvers only. SORBS closed in June 2024."""


def meaning(blocklist: Blocklist, answers: Sequence[str]) -> str:
    """Return what the answers list it for, "" when they do not. Raises Unanswered for every other answer."""
    reasons: list[str] = []
    for answer in answers:
        if answer in ERRORS:
            raise Unanswered(f"{blocklist.name} answers {answer}: {ERRORS[answer]}")
        code = int(answer.rpartition(".")[2]) if answer.startswith(blocklist.network) else -1
        if blocklist.refused and code == blocklist.refused:
            raise Unanswered(f"{blocklist.name} answers {answer}: the query is refused")
        found = [text for bit, text in blocklist.codes.items() if (code & bit if blocklist.mask else code == bit)]
        if code < 0 or not found:
            raise Unanswered(f"{blocklist.name} answers {answer}, which it does not document")
        reasons += found
    return ", ".join(dict.fromkeys(reasons))


@dataclass
class Blocklists:
    """The lists that are asked, and what they answered in the last hour."""

    lists: Sequence[Blocklist] = ()
    dqs_key: str = ""  # Spamhaus's data query service: then through any resolver
    now: Callable[[], float] = time.monotonic
    _kept: dict[tuple[str, str, str], tuple[float, list[str] | Unanswered]] = field(default_factory=dict)

    def of(self, kind: Literal["ip", "domain"]) -> list[Blocklist]:
        """Return the lists of this kind."""
        return [listing for listing in self.lists if listing.of == kind]

    async def check(self, resolver: Resolver, check: Check, names: Sequence[str]) -> Finding:
        """Look the addresses (ip_blocklist) or domains (blocklist) up in all lists of their kind."""
        asked = self.of("ip" if check == "ip_blocklist" else "domain")
        listed, clean, unknown = [], [], []
        for listing in asked:
            try:
                await self._trusted(resolver, listing)
                found = {name: meaning(listing, await self._ask(resolver, listing, name)) for name in names}
            except Unanswered as error:
                unknown.append(self._without_key(str(error)))
                continue
            listed += [(f"{name} is on {listing.name} ({why})", listing.removal) for name, why in found.items() if why]
            clean.append(listing.name)
        if listed:
            removal = ", ".join(dict.fromkeys(where for _, where in listed))
            fix = f"stop, find out why, then ask for removal at {removal}"
            return Finding(check, "broken", "; ".join(said for said, _ in listed), fix)
        if not clean:
            return Finding(check, "could_not_be_checked", "; ".join(unknown))
        said = f"{', '.join(names)}: not on {', '.join(clean)}"
        return Finding(check, "good", said + (f"; not checked: {'; '.join(unknown)}" if unknown else ""))

    async def _trusted(self, resolver: Resolver, listing: Blocklist) -> None:
        """Ask the test points: a list that does not list its own, or lists everything, is worth nothing."""
        if resolver.public and not (listing.spamhaus and self.dqs_key):
            raise Unanswered(f"{listing.name} is not asked through the public resolver {resolver}")
        if not meaning(listing, await self._ask(resolver, listing, listing.listed, raw=True)):
            raise Unanswered(f"{listing.name} does not list its own test point")
        if await self._ask(resolver, listing, listing.clean, raw=True):
            raise Unanswered(f"{listing.name} lists what it must not list")

    async def _ask(self, resolver: Resolver, listing: Blocklist, name: str, *, raw: bool = False) -> list[str]:
        key = (str(resolver), listing.name, name)
        kept = self._kept.get(key)
        if kept is None or self.now() - kept[0] >= KEPT_S:
            kept = self._kept[key] = (self.now(), await self._answer(resolver, listing, name, raw=raw))
        if isinstance(kept[1], Unanswered):
            raise kept[1]
        return kept[1]

    async def _answer(self, resolver: Resolver, listing: Blocklist, name: str, *, raw: bool) -> list[str] | Unanswered:
        zone = listing.zone
        if listing.spamhaus and self.dqs_key:
            zone = f"{self.dqs_key}.{zone.partition('.')[0]}.dq.spamhaus.net"
        asked = reverse_name(name, zone) if listing.of == "ip" and not raw else f"{name}.{zone}"
        try:
            return await resolver.ask(asked, "A")
        except Unanswered as error:
            return error

    def _without_key(self, text: str) -> str:
        return text.replace(self.dqs_key, "<key>") if self.dqs_key else text
