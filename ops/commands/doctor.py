"""`mailfleet doctor`: looks at everything a fleet stands on and says what is wrong and what to do."""

import asyncio
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import click
import orjson
import psycopg
from confluent_kafka import KafkaException
from rich.console import Console
from rich.table import Column, Table

from adapters.catalogue import PROVIDERS
from adapters.dkim_sign import CannotSign, Signer
from adapters.interface import RouteUnfit
from adapters.mail.smtp_session import SmtpSession
from adapters.postmaster import PostmasterSilent
from adapters.reports.imap import Account, Inbox, Trust, Unreadable
from adapters.secrets import SecretMissing, Secrets
from ops.commands.settings import settings as settings_of
from ops.fleet_plan import known
from projections.migrate import scripts
from schemas.fleet import ClientDeclared, DomainDeclared, MailboxDeclared, RouteDeclared
from streams.agents.forward_replies import account_of
from streams.agents.poll_postmaster import days_asked, postmaster_of
from streams.agents.read_mail import report_accounts
from streams.fleet.choose import call_of
from streams.fleet.state import MailboxRow, RouteRow
from streams.log.kafka import LogUnreachable
from streams.log.topics import TopicsWrong, describe
from streams.roles import ROLES, all_topics, places_of
from streams.settings import SettingMissing, Settings

out = Console()
FREE_GB = 5
SILENT = (PostmasterSilent, Unreadable)
UNSIGNED = b"From: doctor\r\n\r\n"


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    what: str
    good: bool
    says: str


def _kafka(settings: Settings) -> str:
    found = describe(settings.connection, all_topics(settings))
    missing = [name for name, topic in found.items() if topic is None]
    if missing:
        raise TopicsWrong(f"{len(missing)} topics are missing ({missing[0]}, ...): run `mailfleet topics`")
    for role in ROLES:
        places_of(settings, role)
    return f"{settings.connection.bootstrap} answers; {len(found)} topics, partition counts as they should be"


def _postgres(settings: Settings) -> str:
    with psycopg.connect(settings.database_url, connect_timeout=5) as connection:
        known_numbers = {row[0] for row in connection.execute("select number from migrations")}
    missing = [name for number, name, _ in scripts() if number not in known_numbers]
    if missing:
        raise SettingMissing(f"migrations are missing ({', '.join(missing)}): run `mailfleet migrate`")
    return f"answers; {len(known_numbers)} migrations"


def _key(settings: Settings) -> str:
    settings.fleet_key()
    if settings.key_file.stat().st_mode & 0o077:
        raise SettingMissing(f"{settings.key_file} may be read by others: chmod 600 it")
    return f"{settings.key_file} is there; is a copy in your backups?"


def _disk(settings: Settings) -> str:
    folder = next(p for p in (settings.home, *settings.home.absolute().parents) if p.exists())
    free = shutil.disk_usage(folder).free / 1e9
    if free < FREE_GB:
        raise SettingMissing(f"only {free:.1f} GB are free at {folder}: make room for at least {FREE_GB} GB")
    return f"{free:.0f} GB free at {folder}"


def _route(settings: Settings, way: RouteDeclared, box: MailboxDeclared | None) -> str:
    """Try the route as one of its mailboxes, without sending mail."""
    if box is None:
        raise RouteUnfit("no mailbox uses it")
    secrets = Secrets(settings.secrets_folder)
    adapter, call = PROVIDERS[way.provider](secrets), call_of(MailboxRow(box), RouteRow(way))

    async def tried() -> str:
        try:
            return await adapter.check(call)
        finally:
            await adapter.close()

    says = asyncio.run(tried())
    try:
        signs = Signer(secrets).sign(UNSIGNED, call) != UNSIGNED
    except (CannotSign, SecretMissing) as error:
        raise RouteUnfit(f"{says}, but nothing leaves unsigned: {error}") from error
    return f"{says}; mail is signed for {call.options['dkim_domain']}" if signs else says


def _secrets(settings: Settings, boxes: list[MailboxDeclared]) -> str:
    secrets = Secrets(settings.secrets_folder)
    missing: list[str] = []
    for ref in {box.secret_ref for box in boxes if box.secret_ref}:
        try:
            secrets.resolve(ref)
        except SecretMissing as error:
            missing.append(str(error))
    if missing:
        raise SettingMissing(f"{len(missing)} secrets cannot be had; the first: {missing[0]}")
    return f"the secrets of {len(boxes)} mailboxes can be read"


def _gmail(settings: Settings, domains: list[DomainDeclared]) -> str:
    """Ask Google for each domain's spam rate, as the DNS watcher does."""

    async def asked() -> list[str]:
        postmaster = postmaster_of(settings)
        if postmaster is None:
            return []
        try:
            says, hidden = [await postmaster.check()], []
            for domain in domains:
                try:
                    rates = await postmaster.spam_rates(domain.domain, *days_asked(datetime.now(UTC)))
                    says.append(f"{domain.domain} {'has data' if rates else 'has no data yet'}")
                except PostmasterSilent as error:
                    if not error.of_domain:
                        raise
                    hidden.append(str(error))
        finally:
            await postmaster.close()
        if hidden:
            raise SettingMissing(f"{len(hidden)} of {len(domains)} domains are not told of: {hidden[0]}")
        return says

    return "; ".join(asyncio.run(asked()))


def _reports(settings: Settings, account: Account) -> str:
    """Log in to a mailbox that is read for its reports."""
    secrets = Secrets(settings.secrets_folder)
    inbox = Inbox(account, secrets, Trust(secrets))
    try:
        inbox.open()
    finally:
        inbox.close()
    return f"{account.host} lets {account.mailbox} in; its folder {account.folder} can be read"


async def _forwarding(settings: Settings) -> str:
    if not settings.forward.host:
        raise SettingMissing("a client has forward_replies_to, but FORWARD_SMTP is not set: no letter is passed on")
    session = SmtpSession(Secrets(settings.secrets_folder))
    try:
        return await session.check(account_of(settings.forward))
    finally:
        await session.close()


def look(settings: Settings) -> list[Finding]:
    """Return all findings; each looks on even when another is bad."""
    found = [
        _try("Kafka", lambda: _kafka(settings)),
        _try("Postgres", lambda: _postgres(settings)),
        _try("fleet key", lambda: _key(settings)),
        _try("disk", lambda: _disk(settings)),
    ]
    if not found[0].good:
        return found
    fleet = asyncio.run(known(settings))
    boxes = [fact for fact in fleet if isinstance(fact, MailboxDeclared)]
    found.append(_try("secrets", lambda: _secrets(settings, boxes)))
    for way in fleet:
        if isinstance(way, RouteDeclared):
            box = next((b for b in boxes if b.client == way.client and way.route in b.routes), None)
            found.append(_try(f"route {way.client}/{way.route}", partial(_route, settings, way, box)))
    if settings.postmaster.credentials_ref:
        domains = [fact for fact in fleet if isinstance(fact, DomainDeclared)]
        found.append(_try("Gmail spam rates", partial(_gmail, settings, domains)))
    for account in report_accounts(fleet):
        found.append(_try(f"reports in {account.mailbox}", partial(_reports, settings, account)))
    if any(isinstance(fact, ClientDeclared) and fact.active and fact.forward_replies_to for fact in fleet):
        found.append(_try("forwarding", lambda: asyncio.run(_forwarding(settings))))
    if not boxes:
        found.append(Finding("fleet", False, "no mailbox is declared: run `mailfleet apply FLEET.toml`"))
    return found


def _try(what: str, question: Callable[[], str]) -> Finding:
    try:
        return Finding(what, True, question())
    except (TopicsWrong, SettingMissing, RouteUnfit, LogUnreachable, psycopg.Error, OSError, *SILENT) as error:
        return Finding(what, False, str(error).strip())
    except KafkaException as error:
        return Finding(what, False, f"{error.args[0].str()}: is KAFKA_BROKERS right and the broker up?")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def doctor(as_json: bool) -> None:
    """Look at Kafka, topics, Postgres, key, disk, secrets, routes, reports; say what is wrong and what to do.

    No mail is sent. Exit code 0 when all is well, 1 otherwise.
    """
    found = look(settings_of())
    if as_json:
        sys.stdout.write(orjson.dumps([vars(f) for f in found]).decode() + "\n")
    else:
        table = Table("", "", Column(overflow="fold"), show_header=False)
        for finding in found:
            table.add_row("[green]good[/]" if finding.good else "[red]bad[/]", finding.what, finding.says)
        out.print(table)
    sys.exit(0 if all(finding.good for finding in found) else 1)
