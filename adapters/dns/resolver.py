"""One name server, asked by dnspython: records, or a definite nothing, or Unanswered."""

import asyncio
import ipaddress
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass

import dns.asyncresolver
import dns.exception
import dns.name
import dns.nameserver
import dns.resolver
import dns.reversename

from schemas.dns import Check, Finding

LIFETIME_S = 6.0
CHECK_S = 60.0
TRIES = 2
PORT = 53
PUBLIC = frozenset(
    map(
        ipaddress.ip_address,
        (
            *("8.8.8.8", "8.8.4.4", "2001:4860:4860::8888", "2001:4860:4860::8844"),  # Google
            *("1.1.1.1", "1.0.0.1", "2606:4700:4700::1111", "2606:4700:4700::1001"),  # Cloudflare
            *("9.9.9.9", "9.9.9.10", "9.9.9.11", "149.112.112.112", "2620:fe::fe"),  # Quad9
            *("208.67.222.222", "208.67.220.220"),  # OpenDNS
            *("213.186.33.99", "4.2.2.1", "4.2.2.2", "64.6.64.6", "77.88.8.8", "94.140.14.14"),
        ),
    )
)
"""Resolvers that serve everybody: blocklists refuse them or answer nonsense (Spamhaus, usage of public mirrors)."""


class Unanswered(Exception):
    """The question has no answer, neither yes nor no: a time-out, SERVFAIL, REFUSED, or nonsense."""


class NameInvalid(Exception):
    """The text cannot be a domain name."""


@dataclass(frozen=True)
class Resolver:
    """Asks one name server, by UDP and where that is too small by TCP; nothing is kept."""

    address: str
    port: int = PORT
    lifetime_s: float = LIFETIME_S

    def __str__(self) -> str:
        """The address, with its port when that is not 53."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return host if self.port == PORT else f"{host}:{self.port}"

    @property
    def public(self) -> bool:
        """Whether everybody's questions go through it."""
        return ipaddress.ip_address(self.address) in PUBLIC

    async def ask(self, name: str, kind: str) -> list[str]:
        """Return the records as text, [] when name or kind definitely do not exist.

        TXT comes with its chunks joined (RFC 7208 3.3). Raises Unanswered, NameInvalid.
        """
        return [_text(record) for record in await self._records(name, kind)]

    async def addresses(self, name: str) -> list[str]:
        """Return A and AAAA. Raises Unanswered, NameInvalid."""
        return [*await self.ask(name, "A"), *await self.ask(name, "AAAA")]

    async def _records(self, name: str, kind: str) -> Sequence[object]:
        question = _absolute(name)
        for last in (False,) * (TRIES - 1) + (True,):
            try:
                answer = await self._asker().resolve(question, kind, raise_on_no_answer=False, search=False)
            except dns.resolver.NXDOMAIN:
                return []
            except (dns.exception.DNSException, OSError) as error:
                if last:
                    raise Unanswered(f"{name} {kind}: {_why(error)} from {self}") from error
            else:
                return list(answer.rrset or ())
        raise AssertionError("unreachable")

    def _asker(self) -> dns.asyncresolver.Resolver:
        asker = dns.asyncresolver.Resolver(configure=False)
        asker.nameservers = [dns.nameserver.Do53Nameserver(self.address, self.port)]
        asker.lifetime, asker.timeout = self.lifetime_s / TRIES, self.lifetime_s / TRIES / 2
        return asker


def resolvers(given: Sequence[str]) -> list[Resolver]:
    """Return the resolvers of `given` ("address" or "address:port"); none given: the system's.

    Raises ValueError for what is no address.
    """
    if given:
        return [_resolver(text) for text in given]
    try:
        system = dns.resolver.Resolver().nameservers
    except dns.resolver.NoResolverConfiguration as error:
        raise ValueError("the system names no resolver: set DNS_RESOLVERS") from error
    return [Resolver(str(address)) for address in system]


def reverse_name(ip: str, zone: str) -> str:
    """Return the name under which blocklists know an address: 192.0.2.7 in bl.test is 7.2.0.192.bl.test."""
    labels = dns.reversename.from_address(ip).to_text().removesuffix(".in-addr.arpa.").removesuffix(".ip6.arpa.")
    return f"{labels}.{zone}"


def pointer_name(ip: str) -> str:
    """Return the name at which the PTR record of an address stands."""
    return dns.reversename.from_address(ip).to_text().rstrip(".")


async def or_unchecked(check: Check, finding: Awaitable[Finding]) -> Finding:
    """Return the finding, or that it could not be checked."""
    try:
        async with asyncio.timeout(CHECK_S):
            return await finding
    except TimeoutError:
        return Finding(check, "could_not_be_checked", f"it took longer than {CHECK_S:.0f} s")
    except Unanswered as error:
        return Finding(check, "could_not_be_checked", str(error))
    except NameInvalid as error:
        return Finding(check, "broken", str(error), "correct the name")


def _resolver(text: str) -> Resolver:
    host, _, port = text.rpartition(":") if text.count(":") == 1 or text.startswith("[") else (text, "", "")
    host, port = (text, "") if text.endswith("]") else (host, port)
    return Resolver(str(ipaddress.ip_address(host.strip("[]"))), int(port or PORT))


def _absolute(name: str) -> dns.name.Name:
    try:
        return dns.name.from_text(name.strip().rstrip(".") + ".")
    except (dns.exception.DNSException, UnicodeError) as error:
        raise NameInvalid(f"{name[:80]!r} is not a domain name: {_why(error)}") from error


def _text(record: object) -> str:
    strings: tuple[bytes, ...] | None = getattr(record, "strings", None)
    return str(record) if strings is None else b"".join(strings).decode("utf-8", "replace")


def _why(error: Exception) -> str:
    """Say in a word what dnspython says in a line with ports in it."""
    if isinstance(error, dns.exception.Timeout):
        return "no answer in time"
    if isinstance(error, dns.resolver.NoNameservers):
        said = [str(attempt[3]) for attempt in error.kwargs.get("errors", ())]
        return next((line for line in said if line in ("SERVFAIL", "REFUSED")), said[0] if said else "no usable answer")
    return str(error) or type(error).__name__
