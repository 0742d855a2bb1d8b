"""MX, return path, and the names of our own servers' addresses (RFC 5321 5.1, RFC 7505, RFC 8499 FCrDNS)."""

import ipaddress
import re

from adapters.dns.needs import Needs
from adapters.dns.resolver import Resolver, Unanswered, pointer_name
from schemas.dns import Check, Finding


async def check_mx(resolver: Resolver, domain: str) -> Finding:
    """Check that replies to the domain find a server. Raises Unanswered."""
    return await _mx(resolver, "mx", domain, f"set {domain} MX to the server that takes its replies")


async def check_return_path(resolver: Resolver, needs: Needs) -> Finding:
    """Check that bounces find a server: the provider's, when it takes them. Raises Unanswered."""
    domain = needs.return_path
    if not domain:
        return Finding("return_path", "good", f"{needs.provider} takes bounces under a return path of its own")
    fix = f"set {domain} MX to {'10 ' + needs.return_mx if needs.return_mx else 'the server that takes bounces'}"
    found = await _mx(resolver, "return_path", domain, fix)
    if needs.return_mx and found.verdict == "good":
        hosts = [host for _, host in await _exchanges(resolver, domain)]
        if hosts != [needs.return_mx]:
            said = f"{domain} MX {', '.join(hosts)}; {needs.provider} wants {needs.return_mx} alone"
            return Finding("return_path", "broken", said, fix)
    return found


async def _exchanges(resolver: Resolver, domain: str) -> list[tuple[int, str]]:
    records = [mx.split() for mx in await resolver.ask(domain, "MX")]
    return sorted((int(preference), host.rstrip(".").lower()) for preference, host in records)


async def _mx(resolver: Resolver, check: Check, domain: str, fix: str) -> Finding:
    found = await _exchanges(resolver, domain)
    if not found:
        bare = await resolver.addresses(domain)
        said = f"{domain} has no MX" + (f"; its address {bare[0]} is no promise to take mail" if bare else "")
        return Finding(check, "missing", said, fix)
    if found == [(0, "")]:
        return Finding(check, "broken", f'{domain} has a null MX ("0 ."): it takes no mail', fix)
    good: list[str] = []
    bad: list[str] = []
    unknown: list[str] = []
    for _, host in found:
        try:
            (good if host and await resolver.addresses(host) else bad).append(host or ".")
        except Unanswered as error:
            unknown.append(str(error))
    said = f"{domain} MX {', '.join(host or '.' for _, host in found)}"
    if good:
        return Finding(check, "good", said, f"{', '.join(bad)} has no address: take it out" if bad else "")
    if unknown:
        return Finding(check, "could_not_be_checked", f"{said}; {unknown[0]}")
    return Finding(check, "broken", f"{said}: none of them has an address", fix)


async def check_ptr(resolver: Resolver, needs: Needs) -> Finding:
    """Check that each own address has a name, and the name that address (FCrDNS). Raises Unanswered."""
    told, better = [], []
    for ip in needs.ips:
        wanted = needs.helo or "the server's own name"
        fix = f"let the owner of {ip} set its PTR to {wanted}, and {wanted} to {ip}"
        names = [name.rstrip(".").lower() for name in await resolver.ask(pointer_name(ip), "PTR")]
        if not names:
            return Finding("ptr", "missing", f"{ip} has no PTR record", fix)
        confirmed = [name for name in names if await _has(resolver, name, ip)]
        if not confirmed:
            return Finding("ptr", "broken", f"{ip} is {', '.join(names)}, which is not {ip}", fix)
        if needs.helo and needs.helo not in confirmed:
            better.append(f"{ip} is {confirmed[0]}, but EHLO says {needs.helo}: let them be one name")
        elif all(is_generic(name, ip) for name in confirmed):
            better.append(f"{confirmed[0]} looks like a dial-up line's name: {fix}")
        told.append(f"{ip} = {confirmed[0]}")
    return Finding("ptr", "good", "; ".join(told), "; ".join(better))


async def _has(resolver: Resolver, name: str, ip: str) -> bool:
    wanted = ipaddress.ip_address(ip)
    found = await resolver.ask(name, "AAAA" if wanted.version == 6 else "A")
    return wanted in map(ipaddress.ip_address, found)


def is_generic(name: str, ip: str) -> bool:
    """Whether the name is made of the address's numbers, as providers' default names are."""
    numbers = re.findall(r"\d+", name)
    octets = ip.split(".")
    return ip.count(".") == 3 and (
        numbers[:4] in (octets, octets[::-1]) or f"{int(ipaddress.ip_address(ip)):08x}" in name
    )
