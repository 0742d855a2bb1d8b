"""One look at a domain through one resolver: all checks of its own, or all checks of one of its routes."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime

from adapters.dns.blocklists import BLOCKLISTS, Blocklists
from adapters.dns.dkim import check_dkim
from adapters.dns.dmarc import PolicyWrong, check_alignment, check_dmarc, organisational
from adapters.dns.hosts import check_mx, check_ptr, check_return_path
from adapters.dns.needs import Needs
from adapters.dns.rdap import OFF, PUBLIC_RDAP, check_expiry
from adapters.dns.resolver import Resolver, or_unchecked, resolvers
from adapters.dns.spf import check_spf
from adapters.secrets import SecretMissing, Secrets
from schemas.dns import Finding


@dataclass(frozen=True)
class Eyes:
    """What looks are made with. `resolvers` are asked one after the other, never all for one answer."""

    resolvers: tuple[Resolver, ...]
    secrets: Secrets
    blocklists: Blocklists = field(default_factory=Blocklists)
    rdap_url: str = PUBLIC_RDAP


class EyesWrong(Exception):
    """The settings of the DNS checks are wrong; the text names the variable and says what to do."""


def open_eyes(
    given: tuple[str, ...], lists: tuple[str, ...], rdap_url: str, dqs_key_ref: str, secrets: Secrets
) -> Eyes:
    """Return the eyes that settings describe. Raises EyesWrong.

    Lists need a resolver that was named: the system's may be anybody's, and an operator blocks whom it serves.
    """
    unknown = sorted(set(lists) - set(BLOCKLISTS))
    if unknown:
        raise EyesWrong(f"DNS_BLOCKLISTS names {unknown[0]}; known are {', '.join(BLOCKLISTS)}")
    try:
        key = secrets.resolve(dqs_key_ref) if dqs_key_ref else ""
    except SecretMissing as error:
        raise EyesWrong(f"DNS_SPAMHAUS_KEY: {error}") from error
    asked = [BLOCKLISTS[name] for name in lists if given or (key and BLOCKLISTS[name].spamhaus)]
    return Eyes(named_resolvers(given), secrets, Blocklists(asked, key), rdap_url)


def named_resolvers(given: tuple[str, ...]) -> tuple[Resolver, ...]:
    """Return the resolvers that DNS_RESOLVERS names, or the system's. Raises EyesWrong."""
    try:
        return tuple(resolvers(given))
    except ValueError as error:
        raise EyesWrong(f"DNS_RESOLVERS: {error}; give addresses, 10.0.0.53 or 127.0.0.1:5353") from error


async def look_at_domain(eyes: Eyes, resolver: Resolver, domain: str, now: datetime, *, expiry: bool) -> list[Finding]:
    """Return the findings about the domain itself; with `expiry` its registry is asked as well."""
    found = [await or_unchecked("mx", check_mx(resolver, domain))]
    if eyes.blocklists.of("domain"):
        found.append(await or_unchecked("blocklist", _listed(eyes, resolver, domain)))
    if expiry and eyes.rdap_url != OFF:
        found.append(await or_unchecked("expiry", check_expiry(domain, eyes.rdap_url, now)))
    return found


async def _listed(eyes: Eyes, resolver: Resolver, domain: str) -> Finding:
    """Lists know registered domains: the organisational one is asked too (surbl.org, implementation guidelines)."""
    try:
        above = await organisational(resolver, domain)
    except PolicyWrong:
        above = domain
    return await eyes.blocklists.check(resolver, "blocklist", list(dict.fromkeys((domain, above))))


async def look_at_route(eyes: Eyes, resolver: Resolver, needs: Needs) -> list[Finding]:
    """Return the findings about what the domain needs for this route; without a name, for any route."""
    looks = [
        or_unchecked("spf", check_spf(resolver, needs)),
        or_unchecked("dmarc", check_dmarc(resolver, needs)),
        or_unchecked("return_path", check_return_path(resolver, needs)),
    ]
    if needs.route:
        looks.append(or_unchecked("dkim", check_dkim(resolver, needs, eyes.secrets)))
        looks.append(or_unchecked("alignment", check_alignment(resolver, needs)))
    if needs.ips:
        looks.append(or_unchecked("ptr", check_ptr(resolver, needs)))
    if needs.ips and eyes.blocklists.of("ip"):
        looks.append(or_unchecked("ip_blocklist", eyes.blocklists.check(resolver, "ip_blocklist", needs.ips)))
    return list(await asyncio.gather(*looks))
