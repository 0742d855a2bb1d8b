"""DMARC (RFC 9989): the record found by the tree walk, its policy, and whether our mail is aligned."""

from dataclasses import dataclass

from adapters.dns.needs import Needs
from adapters.dns.resolver import Resolver
from adapters.dns.tags import TagsWrong, tags
from schemas.dns import Finding

POLICIES = ("none", "quarantine", "reject")
MOST_STEPS = 8  # 4.10: of a long name only the last seven labels are walked
VERSION = "DMARC1"


@dataclass(frozen=True)
class Policy:
    """A DMARC record and the domain that it stands at."""

    at: str
    tags: dict[str, str]

    def strict(self, tag: str) -> bool:
        """Whether alignment by `tag` (aspf, adkim) must be exact."""
        return self.tags.get(tag, "r").lower() == "s"


class PolicyWrong(Exception):
    """Receivers ignore what stands there; the text says why."""


def walk(domain: str) -> list[str]:
    """Return the domains at which a record may stand, longest first (4.10)."""
    labels = domain.lower().rstrip(".").split(".")
    first, rest = labels, labels[1:]
    if len(labels) > MOST_STEPS - 1:
        rest = labels[-(MOST_STEPS - 1) :]
    return [".".join(first), *(".".join(rest[n:]) for n in range(len(rest)))]


async def policies(resolver: Resolver, domain: str) -> list[Policy]:
    """Return the records on the way up, longest domain first. Raises Unanswered, PolicyWrong at the domain itself."""
    found: list[Policy] = []
    for name in walk(domain):
        try:
            policy = await _policy(resolver, name)
        except PolicyWrong:
            if name == domain:
                raise
            continue
        if policy is not None:
            found.append(policy)
            if policy.tags.get("psd", "u").lower() in ("n", "y"):
                break
    return found


async def _policy(resolver: Resolver, domain: str) -> Policy | None:
    texts = await resolver.ask(f"_dmarc.{domain}", "TXT")
    records = [t for t in texts if t.replace(" ", "").startswith(f"v={VERSION}")]
    if not records:
        return None
    if len(records) > 1:
        raise PolicyWrong(f"_dmarc.{domain} has {len(records)} DMARC records; receivers then use none")
    try:
        found = tags(records[0])
    except TagsWrong as error:
        raise PolicyWrong(f"_dmarc.{domain}: {error}") from error
    if found.get("p", "none" if "rua" in found else "").lower() not in POLICIES:
        raise PolicyWrong(f"_dmarc.{domain}: p={found.get('p', '')} is none of {', '.join(POLICIES)}")
    for tag in ("aspf", "adkim"):
        if found.get(tag, "r").lower() not in ("r", "s"):
            raise PolicyWrong(f"_dmarc.{domain}: {tag}={found[tag]} is neither r nor s")
    return Policy(domain, found)


def organisational(domain: str, found: list[Policy]) -> str:
    """Return the organisational domain (4.10.2), given the records on the way up from `domain`."""
    for policy in found:
        kind = policy.tags.get("psd", "u").lower()
        if kind == "n":
            return policy.at
        if kind == "y" and policy.at != domain:
            return ".".join(domain.split(".")[-(policy.at.count(".") + 2) :])
    return found[-1].at if found else domain


async def check_dmarc(resolver: Resolver, needs: Needs) -> Finding:
    """Check the record that receivers use for the domain. Raises Unanswered."""
    domain = needs.domain
    try:
        found = await policies(resolver, domain)
    except PolicyWrong as error:
        return Finding("dmarc", "broken", str(error), f'set one _dmarc.{domain} TXT "v=DMARC1; p=none"')
    if not found:
        fix = f'set _dmarc.{domain} TXT "v=DMARC1; p=none; rua=mailto:dmarc@{domain}"'
        return Finding("dmarc", "missing", f"neither {domain} nor a domain above it has a DMARC record", fix)
    used = found[0]
    inherited = used.at != domain
    policy = used.tags.get("sp" if inherited and "sp" in used.tags else "p", "none")
    said = f"_dmarc.{used.at}: policy {policy}" + (f", inherited by {domain}" if inherited else "")
    return Finding("dmarc", "good", said, await _reports(resolver, used))


async def _reports(resolver: Resolver, policy: Policy) -> str:
    """Say what to better about reports; a foreign domain must agree to receive them (RFC 9990)."""
    if "rua" not in policy.tags:
        return f"no reports are asked for: add rua=mailto:... to _dmarc.{policy.at}"
    for uri in policy.tags["rua"].split(","):
        host = uri.strip().rpartition("@")[2].partition("!")[0].lower().rstrip(".")
        if not host or policy.at == host or policy.at.endswith(f".{host}") or host.endswith(f".{policy.at}"):
            continue
        name = f"{policy.at}._report._dmarc.{host}"
        if not any(text.startswith(f"v={VERSION}") for text in await resolver.ask(name, "TXT")):
            return f'{host} does not agree to receive reports: it must set {name} TXT "v=DMARC1"'
    return ""


async def check_alignment(resolver: Resolver, needs: Needs) -> Finding:
    """Check that SPF or DKIM speaks for the domain in From. Raises Unanswered."""
    domain = needs.domain
    try:
        found = await policies(resolver, domain)
    except PolicyWrong as error:
        return Finding("alignment", "broken", str(error), f"correct _dmarc.{domain} first")
    used = found[0] if found else Policy(domain, {})
    ours = organisational(domain, found)
    by_dkim = bool(needs.selector) and await _aligned(
        resolver, domain, ours, needs.dkim_domain, strict=used.strict("adkim")
    )
    by_spf = bool(needs.return_path) and await _aligned(
        resolver, domain, ours, needs.return_path, strict=used.strict("aspf")
    )
    said = f"From {domain}; d={needs.dkim_domain if needs.selector else '?'}; return path {needs.return_path or '?'}"
    ways = [name for name, good in (("DKIM", by_dkim), ("SPF", by_spf)) if good]
    if ways:
        return Finding("alignment", "good", f"{said}: aligned by {' and '.join(ways)}")
    if not needs.selector:
        advice = "set dns_dkim_selector in the route's options"
        return Finding("alignment", "could_not_be_checked", f"{said}: SPF is not aligned, DKIM is not known", advice)
    fix = f"sign with d={domain}, or use a return path below {ours}"
    return Finding("alignment", "broken", f"{said}: neither is aligned, DMARC fails", fix)


async def _aligned(resolver: Resolver, domain: str, ours: str, other: str, *, strict: bool) -> bool:
    if other == domain:
        return True
    if strict:
        return False
    try:
        theirs = organisational(other, await policies(resolver, other))
    except PolicyWrong:
        return False
    return theirs == ours
