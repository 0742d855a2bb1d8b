"""The records that a domain needs for its routes, ready to paste into a zone file; DKIM keys are made where missing."""

import ipaddress
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from adapters.dns.dkim import PrivateKeyWrong, key_record, new_key, own_public_key
from adapters.dns.dmarc import PolicyWrong, policy_of
from adapters.dns.needs import Needs
from adapters.dns.resolver import NameInvalid, Resolver, Unanswered
from adapters.dns.spf import spf_records
from adapters.secrets import SecretMissing, Secrets

TTL_S = 3_600
CHUNK = 255  # octets of one string of a TXT record (RFC 1035 3.3)


@dataclass(frozen=True)
class Line:
    """One record, or with no kind a remark for the person who pastes."""

    name: str
    kind: str
    value: str

    def __str__(self) -> str:
        """The line of a zone file."""
        if not self.kind:
            return f"; {self.name}: {self.value}"
        return f"{self.name}. {TTL_S} IN {self.kind} {_quoted(self.value) if self.kind == 'TXT' else self.value}"


def _quoted(text: str) -> str:
    escaped = [text[n : n + CHUNK].replace("\\", "\\\\").replace('"', '\\"') for n in range(0, len(text), CHUNK)]
    return " ".join(f'"{chunk}"' for chunk in escaped)


def remark(about: str, text: str) -> Line:
    """Return a comment."""
    return Line(about, "", text)


async def records(
    resolver: Resolver, domain: str, wanted: Sequence[Needs], secrets: Secrets, reports_to: str = ""
) -> list[Line]:
    """Return every record to set for the routes of `domain`. What stands there already is built upon.

    `reports_to` is the address whose DMARC reports are counted.
    """
    lines = [
        line
        for path in dict.fromkeys(n.return_path for n in wanted if n.return_path)
        for line in await _spf(resolver, path, [n for n in wanted if n.return_path == path])
    ]
    lines += [_dkim(needs, secrets) for needs in wanted if needs.route]
    lines += await _dmarc(resolver, domain, reports_to)
    for needs in wanted:
        lines += _return_path(needs)
        lines += _pointers(needs)
    if not await _present(resolver, domain, "MX"):
        lines.append(remark(domain, "set MX to the server that takes its replies"))
    return list(dict.fromkeys(lines))


async def _present(resolver: Resolver, name: str, kind: str) -> bool:
    """Whether a record stands there; one that cannot be looked up is not asked for anew."""
    try:
        return bool(await resolver.ask(name, kind))
    except (Unanswered, NameInvalid):
        return True


async def _spf(resolver: Resolver, name: str, wanted: Sequence[Needs]) -> list[Line]:
    terms = [t for needs in wanted for t in (*needs.spf[:1], *map(ip_term, needs.ips))]
    try:
        present = spf_records(await resolver.ask(name, "TXT"))
    except (Unanswered, NameInvalid) as error:
        return [remark(name, f"its SPF record cannot be looked up now ({error}); it must have {' '.join(terms)}")]
    lines = [
        remark(name, f"what {n.route} sends from is not known: set dns_spf or dns_ips in its options")
        for n in wanted
        if n.route and not n.spf and not n.ips
    ]
    if terms or present:
        lines.append(Line(name, "TXT", merged(present, terms)))
    if len(present) > 1:
        lines.append(remark(name, f"this one SPF record takes the place of {len(present)}"))
    return lines


def ip_term(ip: str) -> str:
    """Return the SPF term for an address."""
    return f"ip{ipaddress.ip_address(ip).version}:{ip}"


def merged(present: Iterable[str], terms: Iterable[str]) -> str:
    """Return one SPF record with all terms of those present and `terms`, ending as it ended, never with +all."""
    words = [word for record in present for word in record.split()[1:]]
    ends = [word for word in words if word.lower().lstrip("+-~?") == "all"]
    redirect = [word for word in words if word.lower().startswith("redirect=")]
    end = ends[:1] if ends and ends[0][0] in "-~?" else ["~all"]
    kept = [word for word in words if word not in ends and word not in redirect]
    return " ".join(dict.fromkeys(["v=spf1", *kept, *terms, *(redirect[:1] if redirect and not ends else end)]))


def _dkim(needs: Needs, secrets: Secrets) -> Line:
    if not needs.key_ref:
        where = f"set {needs.selector or 'the selector'}._domainkey.{needs.dkim_domain} as the console of "
        return remark(needs.dkim_domain, f"DKIM of route {needs.route}: {where}{needs.provider} says")
    if not needs.selector:
        return remark(needs.dkim_domain, f"DKIM of route {needs.route}: its options name no dns_dkim_selector")
    try:
        if needs.key_ref.startswith("file:"):
            keep_new_key(secrets.path(needs.key_ref))
        key = own_public_key(secrets.resolve(needs.key_ref), needs.key_ref)
    except (SecretMissing, PrivateKeyWrong) as error:
        return remark(needs.dkim_domain, f"DKIM of route {needs.route}: {error}")
    return Line(f"{needs.selector}._domainkey.{needs.dkim_domain}", "TXT", key_record(key))


def keep_new_key(path: Path) -> bool:
    """Make a DKIM key that its owner alone may read, unless there is one. Return whether it was made."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    with os.fdopen(handle, "wb") as file:
        file.write(new_key())
    return True


async def _dmarc(resolver: Resolver, domain: str, reports_to: str) -> list[Line]:
    record = Line(f"_dmarc.{domain}", "TXT", f"v=DMARC1; p=none; rua=mailto:{reports_to or f'dmarc@{domain}'}")
    try:
        found = await policy_of(resolver, domain)
    except PolicyWrong:
        return [record, *_agreement(domain, reports_to)]
    except (Unanswered, NameInvalid) as error:
        return [remark(domain, f"its DMARC record cannot be looked up now ({error})")]
    if found is None:
        return [record, *_agreement(domain, reports_to)]
    if reports_to and reports_to not in found.tags.get("rua", "").lower():
        add = remark(domain, f"add mailto:{reports_to} to rua= in the DMARC record at _dmarc.{found.at}")
        return [add, *_agreement(found.at, reports_to)]
    return [remark(domain, f"the DMARC record at _dmarc.{found.at} stays as it is")]


def _agreement(domain: str, reports_to: str) -> list[Line]:
    """A foreign domain must agree to receive reports (RFC 9990); one above or below is none."""
    host = reports_to.rpartition("@")[2]
    if not host or host == domain or host.endswith(f".{domain}") or domain.endswith(f".{host}"):
        return []
    return [Line(f"{domain}._report._dmarc.{host}", "TXT", "v=DMARC1")]


def _return_path(needs: Needs) -> list[Line]:
    if needs.return_path and needs.return_mx:
        return [Line(needs.return_path, "MX", f"10 {needs.return_mx}.")]
    if needs.return_path and needs.return_path != needs.domain:
        return [remark(needs.return_path, "set MX to the server that takes bounces")]
    return []


def _pointers(needs: Needs) -> list[Line]:
    lines = []
    for ip in needs.ips:
        if needs.helo:
            lines.append(Line(needs.helo, "AAAA" if ":" in ip else "A", ip))
        lines.append(remark(ip, f"ask its owner to set PTR to {needs.helo or 'the name that the server says in EHLO'}"))
    return lines
