"""DMARC (RFC 9989): the record found by the tree walk, its policy, and whether our mail is aligned."""

from collections.abc import AsyncGenerator, Mapping
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


async def policy_of(resolver: Resolver, domain: str) -> Policy | None:
    """Return the record that receivers use for mail from `domain`. Raises Unanswered, PolicyWrong at the domain."""
    async for policy in _upwards(resolver, domain):
        return policy
    return None


async def organisational(resolver: Resolver, domain: str) -> str:
    """Return the organisational domain (4.10.2). Raises Unanswered, PolicyWrong at the domain itself."""
    highest = domain
    async for policy in _upwards(resolver, domain):
        kind = policy.tags.get("psd", "u").lower()
        if kind == "n":
            return policy.at
        if kind == "y" and policy.at != domain:
            return ".".join(domain.split(".")[-(policy.at.count(".") + 2) :])
        highest = policy.at
    return highest


async def _upwards(resolver: Resolver, domain: str) -> AsyncGenerator[Policy, None]:
    for name in walk(domain):
        try:
            policy = await _policy(resolver, name)
        except PolicyWrong:
            if name == domain:
                raise
            continue
        if policy is not None:
            yield policy


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


async def check_dmarc(resolver: Resolver, needs: Needs) -> Finding:
    """Check the record that receivers use for the domain. Raises Unanswered."""
    domain = needs.domain
    try:
        used = await policy_of(resolver, domain)
    except PolicyWrong as error:
        return Finding("dmarc", "broken", str(error), f'set one _dmarc.{domain} TXT "v=DMARC1; p=none"')
    if used is None:
        fix = f'set _dmarc.{domain} TXT "v=DMARC1; p=none; rua=mailto:dmarc@{domain}"'
        return Finding("dmarc", "missing", f"neither {domain} nor a domain above it has a DMARC record", fix)
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
    said = f"From {domain}; d={needs.dkim_domain if needs.selector else '?'}; return path {needs.return_path or '?'}"
    spoken = {"DKIM": needs.dkim_domain if needs.selector else "", "SPF": needs.return_path}
    ways = [name for name, other in spoken.items() if other == domain]
    try:
        if not ways:
            ways = await _related(resolver, domain, spoken)
    except PolicyWrong as error:
        return Finding("alignment", "broken", str(error), "correct that record first")
    if ways:
        return Finding("alignment", "good", f"{said}: aligned by {' and '.join(ways)}")
    if not needs.selector:
        advice = "set dns_dkim_selector in the route's options"
        return Finding("alignment", "could_not_be_checked", f"{said}: SPF is not aligned, DKIM is not known", advice)
    fix = f"sign with d={domain}, or use a return path below it"
    return Finding("alignment", "broken", f"{said}: neither is aligned, DMARC fails", fix)


async def _related(resolver: Resolver, domain: str, spoken: Mapping[str, str]) -> list[str]:
    """Return the ways whose domain has the organisational domain of `domain`, where that is enough (4.4)."""
    used = await policy_of(resolver, domain)
    strict = {"DKIM": used is not None and used.strict("adkim"), "SPF": used is not None and used.strict("aspf")}
    ours = await organisational(resolver, domain)
    return [
        name
        for name, other in spoken.items()
        if other and not strict[name] and await organisational(resolver, other) == ours
    ]
