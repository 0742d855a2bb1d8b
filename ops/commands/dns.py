"""Commands about what the DNS says of a domain: check-domain, dns-records."""

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path

import click
import orjson
from rich.console import Console
from rich.table import Table

from adapters.dns.look import Eyes, look_at_domain, look_at_route, open_eyes
from adapters.dns.needs import Needs, needs_of
from adapters.secrets import Secrets
from ops.commands.settings import environment, settings
from ops.dns_records import records
from ops.fleet_file import read_fleet
from ops.fleet_plan import known
from schemas.dns import Finding
from schemas.fleet import ClientDeclared, DomainDeclared
from schemas.ids import DomainName, RouteId
from schemas.registry import Fact
from streams.agents.watch_dns import subjects
from streams.delivery.identity import AddressInvalid, domain_of, normalise
from streams.settings import dns_from, home_from

out = Console()
errors = Console(stderr=True)
COLOURS = {"good": "green", "broken": "red", "missing": "red", "could_not_be_checked": "yellow"}
BAD = ("broken", "missing")
DOMAIN = click.argument("domain")
FLEET = click.option(
    "--fleet",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A fleet file whose routes count, instead of those that are applied.",
)
RESOLVER = click.option("--resolver", default="", help="Ask this one: an address, or address:port.")


def _domain(text: str) -> DomainName:
    try:
        return domain_of(normalise(f"postmaster@{text.strip().rstrip('.')}"))
    except AddressInvalid as error:
        raise click.UsageError(f"DOMAIN {text}: {error}") from error


def _declared(fleet: Path | None) -> list[Fact]:
    if fleet is not None:
        return list(read_fleet(fleet))
    if not environment().get("KAFKA_BROKERS"):
        errors.print("no fleet is known here (KAFKA_BROKERS is not set, no --fleet): routes are not checked")
        return []
    return list(asyncio.run(known(settings())))


def _reports_to(domain: DomainName, declared: list[Fact]) -> str:
    """Return where the reports about the domain are counted, "" for nowhere."""
    owner = next((f.client for f in declared if isinstance(f, DomainDeclared) and f.domain == domain), None)
    boxes = (f.dmarc_mailbox for f in declared if isinstance(f, ClientDeclared) and f.client == owner)
    return next((box.address for box in boxes if box is not None), "")


def _needs(domain: DomainName, declared: list[Fact], route: str = "") -> list[Needs]:
    """Return what the domain's routes need; for a domain of nobody, what any sender needs."""
    ways = [(s, way) for s in subjects(declared) if s.domain == domain for way in s.routes]
    if route and not any(way.route == route for _, way in ways):
        raise click.UsageError(f"no mailbox of {domain} uses a route {route}")
    wanted = [needs_of(domain, way) for _, way in ways if route in ("", way.route)]
    return wanted or [Needs(domain, RouteId(""), "", return_path=domain, dkim_domain=domain)]


def _eyes(resolver: str) -> Eyes:
    given = dns_from(environment())
    secrets = Secrets(home_from(environment()) / "secrets")
    named = (resolver,) if resolver else given.resolvers
    return open_eyes(named, given.blocklists, given.rdap_url, given.spamhaus_key_ref, secrets)


async def _look(eyes: Eyes, domain: DomainName, wanted: list[Needs]) -> list[tuple[str, Finding]]:
    asked = eyes.resolvers[0]
    own, *ways = await asyncio.gather(
        look_at_domain(eyes, asked, domain, datetime.now(UTC), expiry=True),
        *(look_at_route(eyes, asked, needs) for needs in wanted),
    )
    found = [("", f) for f in own]
    return found + [(needs.route, f) for needs, way in zip(wanted, ways, strict=True) for f in way]


def _show(console: Console, found: list[tuple[str, Finding]]) -> None:
    table = Table()
    for column in ("route", "check", "", "evidence", "what to do"):
        table.add_column(column, overflow="fold")
    for route, f in found:
        verdict = f"[{COLOURS[f.verdict]}]{f.verdict.replace('_', ' ')}[/]"
        table.add_row(route, f.check.replace("_", " "), verdict, f.evidence, f.fix)
    console.print(table)


@click.command("check-domain")
@DOMAIN
@click.option("--route", default="", help="Only what this route needs.")
@FLEET
@RESOLVER
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def check_domain(domain: str, route: str, fleet: Path | None, resolver: str, as_json: bool) -> None:
    """Look at DOMAIN's records: SPF, DKIM, DMARC, MX, return path, PTR, blocklists, expiry; what to set to what.

    Exit code 1 when something is broken or missing. What could not be checked is neither: try again, or ask
    another resolver.
    """
    name = _domain(domain)
    eyes = _eyes(resolver)
    found = asyncio.run(_look(eyes, name, _needs(name, _declared(fleet), route)))
    if as_json:
        rows = [
            {"route": way, "check": f.check, "verdict": f.verdict, "evidence": f.evidence, "fix": f.fix}
            for way, f in found
        ]
        sys.stdout.write(orjson.dumps(rows).decode() + "\n")
    else:
        _show(out, found)
    sys.exit(1 if any(f.verdict in BAD for _, f in found) else 0)


@click.command("dns-records")
@DOMAIN
@FLEET
@RESOLVER
def dns_records(domain: str, fleet: Path | None, resolver: str) -> None:
    """Print every record that DOMAIN needs for its routes, ready to paste into its zone; then check them.

    Records that stand there already are built upon. DKIM keys for own servers are made (RSA, 2048 bits) and kept
    in the secrets folder, mode 0600. The records go to standard output, the findings to standard error.
    """
    name = _domain(domain)
    eyes = _eyes(resolver)
    declared = _declared(fleet)
    wanted = _needs(name, declared)

    async def made() -> tuple[list[str], list[tuple[str, Finding]]]:
        lines = await records(eyes.resolvers[0], name, wanted, eyes.secrets, _reports_to(name, declared))
        return [str(line) for line in lines], await _look(eyes, name, wanted)

    lines, found = asyncio.run(made())
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
    _show(errors, found)
