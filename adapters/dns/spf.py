"""SPF (RFC 7208): one record, its syntax, its look-ups counted through every include, and who may send by it."""

import ipaddress
import re
from dataclasses import dataclass, field

from adapters.dns.needs import Needs
from adapters.dns.resolver import NameInvalid, Resolver
from schemas.dns import Finding

MOST_LOOKUPS = 10  # 4.6.4
MOST_VOID = 2
MOST_NAMES = 10  # of one mx
COUNTED_TO = 40
"""Past the limit we go on counting for the person who must shorten the record, but not for ever."""

_TERM = re.compile(r"^([-+?~]?)(all|include|a|mx|ptr|ip4|ip6|exists)(?:([:/])(.+))?$", re.IGNORECASE)
_MODIFIER = re.compile(r"^([a-z][a-z0-9_.-]*)=(.*)$", re.IGNORECASE)
_DUAL = re.compile(r"^(.*?)(?:/(\d{1,2}))?(?://(\d{1,3}))?$")
_NEEDS_VALUE = ("include", "ip4", "ip6", "exists")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Permerror(Exception):
    """Receivers take the record for broken; the text says why."""


@dataclass(frozen=True)
class Term:
    """One mechanism: + - ~ ?, its name and its value ("" when there is none)."""

    qualifier: str
    name: str
    value: str


@dataclass
class Expanded:
    """A record with all that it includes. `networks` are in the order in which a receiver compares them."""

    lookups: int = 0
    void: int = 0
    includes: list[str] = field(default_factory=list)
    networks: list[tuple[str, Network]] = field(default_factory=list)
    all: str = ""  # the qualifier of `all`
    opaque: list[str] = field(default_factory=list)  # terms whose meaning depends on the mail

    def allows(self, ip: str) -> bool:
        """Whether the first match of the address is a pass."""
        address = ipaddress.ip_address(ip)
        first = next((q for q, net in self.networks if address.version == net.version and address in net), self.all)
        return first == "+"


def parse(record: str) -> tuple[list[Term], str]:
    """Return (mechanisms, redirect) of a record. Raises Permerror."""
    terms: list[Term] = []
    redirects: list[str] = []
    for word in record.split(" ")[1:]:
        if not word:
            continue
        modifier, mechanism = _MODIFIER.match(word), _TERM.match(word)
        if mechanism:
            terms.append(_mechanism(word, mechanism))
        elif not modifier:
            raise Permerror(f"{word!r} is no term of SPF")
        elif modifier[1].lower() == "redirect":
            redirects.append(modifier[2])
    if len(redirects) > 1:
        raise Permerror("redirect= stands there twice")
    return terms, redirects[0] if redirects else ""


def _mechanism(word: str, found: re.Match[str]) -> Term:
    qualifier, name, mark, value = found[1] or "+", found[2].lower(), found[3] or "", found[4] or ""
    if (name in _NEEDS_VALUE) != bool(value and mark == ":") and (name in _NEEDS_VALUE or name == "all"):
        raise Permerror(f"{word!r}: {name} {'takes no' if name == 'all' else 'needs a'} value")
    if name in ("ip4", "ip6"):
        try:
            net = ipaddress.ip_network(value, strict=False)
        except ValueError as error:
            raise Permerror(f"{word!r} names no network") from error
        if net.version != int(name[2]):
            raise Permerror(f"{word!r} is an address of the other kind")
    return Term(qualifier, name, ("/" + value) if mark == "/" else value)


def spf_records(texts: list[str]) -> list[str]:
    """Return the records among a name's TXT that are SPF."""
    return [t for t in texts if t.lower() == "v=spf1" or t.lower().startswith("v=spf1 ")]


async def record_of(resolver: Resolver, domain: str) -> str:
    """Return the SPF record, "" when there is none. Raises Permerror for several, Unanswered."""
    found = spf_records(await resolver.ask(domain, "TXT"))
    if len(found) > 1:
        raise Permerror(f"{domain} has {len(found)} SPF records; receivers then use none")
    return found[0] if found else ""


async def expand(resolver: Resolver, domain: str, record: str) -> Expanded:
    """Follow the record to its end. Raises Permerror, Unanswered."""
    found = Expanded()
    found.all = await _follow(resolver, domain, record, found, "+", (domain.lower(),))
    if found.lookups > MOST_LOOKUPS:
        count = f"{found.lookups} or more" if found.lookups >= COUNTED_TO else str(found.lookups)
        raise Permerror(f"{count} DNS look-ups, {MOST_LOOKUPS} are allowed")
    if found.void > MOST_VOID:
        raise Permerror(f"{found.void} look-ups find nothing, {MOST_VOID} are allowed")
    return found


async def _follow(
    resolver: Resolver, domain: str, record: str, found: Expanded, within: str, path: tuple[str, ...]
) -> str:
    """Add what the record says to `found`; return the qualifier of its `all`, "" without one."""
    terms, redirect = parse(record)
    for term in terms:
        qualifier = term.qualifier if len(path) == 1 else (within if term.qualifier == "+" else "")
        if term.name == "all":
            return term.qualifier  # what stands behind it is never looked at (5.1)
        if term.name in ("ip4", "ip6"):
            _add(found, qualifier, [term.value])
        elif found.lookups < COUNTED_TO:
            found.lookups += 1
            await _look_up(resolver, domain, term, found, qualifier, path)
    if redirect and found.lookups < COUNTED_TO:
        found.lookups += 1
        if "%" in redirect:
            found.opaque.append(f"redirect={redirect}")
            return ""
        return await _other(resolver, redirect, found, within, path, redirected=True)
    return ""


async def _look_up(
    resolver: Resolver, domain: str, term: Term, found: Expanded, qualifier: str, path: tuple[str, ...]
) -> None:
    if "%" in term.value or term.name in ("exists", "ptr"):
        found.opaque.append(f"{term.name}:{term.value}")
        return
    if term.name == "include":
        await _other(resolver, term.value, found, qualifier, path, redirected=False)
        return
    split = _DUAL.match(term.value)
    target, short, long = (split[1], split[2], split[3]) if split else (term.value, None, None)
    hosts = [target or domain]
    if term.name == "mx":
        hosts = [mx.split()[1].rstrip(".") for mx in await _asked(resolver, hosts[0], "MX")]
        hosts = [host for host in hosts if host]
        if len(hosts) > MOST_NAMES:
            raise Permerror(f"mx of {target or domain} has {len(hosts)} names, {MOST_NAMES} are allowed")
    addresses = [a for host in hosts for kind in ("A", "AAAA") for a in await _asked(resolver, host, kind)]
    found.void += not addresses
    _add(found, qualifier, [f"{a}/{(long or 128) if ':' in a else (short or 32)}" for a in addresses])


async def _other(
    resolver: Resolver, name: str, found: Expanded, within: str, path: tuple[str, ...], *, redirected: bool
) -> str:
    """Follow an include or redirect: the domain named must have a record (5.2, 6.1)."""
    name = name.lower().rstrip(".")
    if name in path:
        raise Permerror(f"{' → '.join((*path, name))} is a circle")
    texts = await _asked(resolver, name, "TXT")
    found.void += not texts
    records = spf_records(texts)
    if len(records) != 1:
        raise Permerror(f"{name}, which {path[-1]} names, has {len(records) or 'no'} SPF records")
    if not redirected and within == "+":
        found.includes.append(name)
    deeper = await _follow(resolver, name, records[0], found, within, (*path, name))
    if redirected:
        return deeper
    if deeper == "+":
        _add(found, within, ["0.0.0.0/0", "::/0"])
    return ""


async def _asked(resolver: Resolver, name: str, kind: str) -> list[str]:
    try:
        return await resolver.ask(name, kind)
    except NameInvalid as error:
        raise Permerror(str(error)) from error


def _add(found: Expanded, qualifier: str, networks: list[str]) -> None:
    """A term that does not pass within an include matches nothing (5.2)."""
    if not qualifier:
        return
    try:
        found.networks += [(qualifier, ipaddress.ip_network(net, strict=False)) for net in networks]
    except ValueError as error:
        raise Permerror(f"{error}") from error


async def check_spf(resolver: Resolver, needs: Needs) -> Finding:
    """Check the record of the envelope sender's domain, and that the route may send by it. Raises Unanswered."""
    domain = needs.return_path
    if not domain:
        said = f"{needs.provider} sends under a return path of its own, whose SPF record is its own"
        return Finding("spf", "good", said, "for SPF that is aligned, set a custom MAIL FROM and dns_return_path")
    terms = needs.spf or tuple(_ip_term(ip) for ip in needs.ips)
    wanted = " ".join(terms[:1] if needs.spf else terms)
    try:
        record = await record_of(resolver, domain)
        if not record:
            fix = f'set {domain} TXT "v=spf1 {wanted + " " if wanted else ""}~all"'
            return Finding("spf", "missing", f"{domain} has no SPF record", fix)
        found = await expand(resolver, domain, record)
    except Permerror as error:
        return Finding("spf", "broken", f"{domain}: {error}", _repair(str(error), domain))
    return _judged(needs, domain, record, found, wanted)


def _judged(needs: Needs, domain: str, record: str, found: Expanded, wanted: str) -> Finding:
    said = f"{domain}: {record[:300]} ({found.lookups} look-ups)"
    if found.all == "+":
        return Finding("spf", "broken", f"{said}: everybody may send", f"end the record of {domain} with ~all")
    has_term = _has_one(needs.spf, record, found)
    missing = [] if has_term else [wanted]
    missing += [_ip_term(ip) for ip in needs.ips if not found.allows(ip)]
    if missing and has_term and found.opaque:
        reason = f"{said}: whether it allows {' '.join(missing)} depends on {found.opaque[0]}"
        return Finding("spf", "could_not_be_checked", reason)
    if missing:
        put = " ".join(dict.fromkeys(missing))
        reason = f"{said}: does not allow route {needs.route}"
        return Finding("spf", "broken", reason, f'put {put} into the SPF record of {domain}, before its "all"')
    if needs.route and not needs.spf and not needs.ips:
        return Finding("spf", "good", said, f"what {needs.route} sends from is not known: set dns_spf or dns_ips")
    return Finding("spf", "good", said, "" if found.all in ("-", "~") else f"end the record of {domain} with ~all")


def _has_one(wanted: tuple[str, ...], record: str, found: Expanded) -> bool:
    words = [word.lower().removeprefix("+") for word in record.split()]
    ends = next((n for n, word in enumerate(words) if word.lstrip("-?~") == "all"), len(words))
    words = words[:ends]  # what stands behind it is never looked at
    return not wanted or any(term in words or term.removeprefix("include:") in found.includes for term in wanted)


def _ip_term(ip: str) -> str:
    return f"ip{ipaddress.ip_address(ip).version}:{ip}"


def _repair(error: str, domain: str) -> str:
    if "SPF records; receivers" in error:
        return f'merge the SPF records of {domain} into one "v=spf1 ... ~all"'
    if "look-ups" in error:
        return f"take includes out of the record of {domain} that nobody sends by, or name networks as ip4: and ip6:"
    return f"correct the SPF record of {domain}"
