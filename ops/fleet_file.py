"""The fleet file: reads fleet.toml and the CSV files it names, and says everything that is wrong at once."""

import csv
import re
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from adapters.catalogue import PROVIDERS
from adapters.dns.needs import is_ip
from ops.costs import Alternative, Price, declared_costs
from ops.fleet_policy import read_policy
from schemas.fleet import (
    EVERY_BASIS,
    WITH_CONSENT,
    BounceMailbox,
    ClientDeclared,
    CostDeclared,
    DomainDeclared,
    MailboxDeclared,
    Pace,
    RouteDeclared,
)
from schemas.ids import CampaignId, ClientId, DomainName, MailboxAddress, RouteId
from schemas.policy import Policy, PolicyApplied
from schemas.registry import Fact
from schemas.requests import is_id
from schemas.sending import BasisType
from streams.agents.mail_reports import BOUNCES
from streams.agents.read_mail import API_PROVIDERS
from streams.delivery.identity import AddressInvalid, normalise
from streams.fleet.organisation import organisation_of
from streams.fleet.pace import ZoneUnknown, zone
from streams.fleet.quota import LONGEST_SLOT

Declared = ClientDeclared | PolicyApplied | DomainDeclared | RouteDeclared | MailboxDeclared | CostDeclared
CONSENT_ONLY = ("ses", "mailgun")
"""Amazon's and Sinch's policies forbid mail that nobody asked for (AWS SES FAQ on enforcement; Sinch AUP 1b-1d)."""
_AFTER_READING = re.compile(r"|seen|move:[^/\r\n]+")
A_MONTH = 30 * 86_400
SLOWEST = 1 / 3_600  # a second: one mail an hour
LOOPBACK = ("127.0.0.1", "::1", "localhost")
CSV_COLUMNS = ("client", "mailbox", "daily_quota", "routes", "secret", "name", "username")


class FleetFileWrong(Exception):
    """The fleet file cannot be applied; every line of the text names a place and its reason."""


class _Way(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    provider: str
    host: str = "127.0.0.1"
    port: int = 587
    tls: Literal["starttls", "implicit", "none"] = "starttls"
    ca_file: str = ""
    max_connections: int = 5
    ceiling_24h: int = 0
    ceiling_per_second: float = 0.0
    accepts_basis: tuple[BasisType, ...] = ()  # none named: what the provider's own policy allows
    monthly_usd: float = 0.0
    per_thousand_usd: float = 0.0
    options: dict[str, str] = {}
    pause_seconds: int = 300


class _Share(msgspec.Struct, forbid_unknown_fields=True):
    account: str
    share_percent: float = 100.0
    accepts_basis: tuple[BasisType, ...] = ()


class _Domain(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    daily_quota: int = 0
    routes: list[str] = []  # the routes that the domain has good records for; none named: all of the client's


class _Mailboxes(msgspec.Struct, forbid_unknown_fields=True):
    domain: str
    names: list[str]
    daily_quota: int
    secret: str
    route: str = ""
    routes: list[str] = []
    display_name: str = ""


class _BounceBox(msgspec.Struct, forbid_unknown_fields=True):
    address: str
    host: str
    secret: str
    port: int = 993
    username: str = ""
    ca_file: str = ""
    after_reading: str = ""
    folder: str = ""


class _Client(msgspec.Struct, forbid_unknown_fields=True):
    campaigns: list[str]
    postal_address: str
    unsubscribe_url: str = ""
    unsubscribe_from_all: bool = False
    unsubscribe_mailto: str = ""
    forward_replies_to: str = ""
    bounce_mailbox: _BounceBox | None = None
    dmarc_mailbox: _BounceBox | None = None
    without_consent_in: tuple[str, ...] = ("US", "GB")
    pace: dict[str, Any] = {}
    policy: dict[str, Any] = {}
    routes: dict[str, dict[str, Any]] = {}
    domains: list[str | _Domain] = []
    mailboxes: list[_Mailboxes] = []


class _File(msgspec.Struct, forbid_unknown_fields=True):
    clients: dict[str, _Client]
    pace: dict[str, Any] = {}
    policy: dict[str, Any] = {}
    accounts: dict[str, _Way] = {}
    mailbox_files: list[str] = []
    prices: list[Price] = []
    compare: list[Alternative] = []


class _Box(msgspec.Struct):
    """A mailbox before it is checked; `where` names the line that declares it."""

    where: str
    client: str
    mailbox: str
    daily_quota: int
    routes: tuple[str, ...]
    secret: str
    name: str
    username: str


def _read(path: Path) -> _File:
    try:
        return msgspec.convert(tomllib.loads(path.read_text("utf-8")), _File)
    except OSError as error:
        raise FleetFileWrong(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise FleetFileWrong(f"{path}: {error}") from error


def read_prices(path: Path) -> tuple[list[Price], list[Alternative]]:
    """Return what the file says of prices, and what to compare with. Raises FleetFileWrong."""
    file = _read(path)
    return file.prices, file.compare


def read_fleet(path: Path) -> list[Declared]:
    """Return what the file declares, or raise FleetFileWrong with everything that is wrong."""
    file = _read(path)
    reading = _Reading(file)
    facts = reading.facts(path)
    if reading.wrong:
        raise FleetFileWrong("\n".join(f"{path}: {line}" for line in reading.wrong))
    return facts


class _Reading:
    """One reading of a file: collects facts and everything that is wrong."""

    def __init__(self, file: _File) -> None:
        self._file = file
        self.wrong: list[str] = []

    def facts(self, path: Path) -> list[Declared]:
        """Return all declarations; what is wrong stands in `wrong`."""
        self._shares()
        facts: list[Declared] = []
        domains: dict[tuple[str, str], _Domain] = {}
        routes: dict[str, set[str]] = {}
        for name, client in self._file.clients.items():
            facts.append(self._client(name, client))
            facts.append(PolicyApplied(ClientId(name), self._policy(name, client), "fleet file"))
            for domain in client.domains:
                full = _lower(_Domain(domain) if isinstance(domain, str) else domain)
                if (name, full.name) in domains:
                    self.wrong.append(f"client {name}: domain {full.name} is named twice")
                domains[name, full.name] = full
            routes[name] = set(client.routes)
            facts += [self._route(name, route, raw) for route, raw in client.routes.items()]
        facts += [self._domain(client, domain, routes[client]) for (client, _), domain in domains.items()]
        owners: dict[str, set[str]] = defaultdict(set)
        for client_name, domain_name in domains:
            owners[domain_name].add(client_name)
        self.wrong += [
            f"domain {domain} belongs to more than one client: {', '.join(sorted(who))}"
            for domain, who in owners.items()
            if len(who) > 1
        ]
        self._check_organisations(domains)
        boxes = [*self._grouped(), *self._listed(path)]
        counts = Counter(box.mailbox.lower() for box in boxes)
        self.wrong += [f"mailbox {box} is declared {count} times" for box, count in counts.items() if count > 1]
        self._check_forwarding(counts)
        facts += [self._mailbox(box, domains, routes) for box in boxes]
        return facts if self.wrong else [*facts, *declared_costs(facts, self._file.prices)]

    def _check_organisations(self, domains: Iterable[tuple[str, str]]) -> None:
        """Receivers count an organisation's sub-domains together; ceilings are kept for each client."""
        owners: dict[str, set[str]] = defaultdict(set)
        names: dict[str, set[str]] = defaultdict(set)
        for client, name in domains:
            owners[organisation_of(DomainName(name))].add(client)
            names[organisation_of(DomainName(name))].add(name)
        self.wrong += [
            f"{', '.join(sorted(names[org]))} are one organisation's for receivers, {org}, but belong to "
            f"{', '.join(sorted(who))}: put them under one client"
            for org, who in owners.items()
            if len(who) > 1 and len(names[org]) > 1
        ]

    def _check_forwarding(self, boxes: Iterable[str]) -> None:
        """Replies go to a person, not round in the fleet."""
        ours = {*boxes, *(c.bounce_mailbox.address.lower() for c in self._file.clients.values() if c.bounce_mailbox)}
        for name, client in self._file.clients.items():
            address, where = client.forward_replies_to.lower(), f"client {name}, forward_replies_to"
            if not address:
                continue
            self._address(where, address)
            local, _, domain = address.rpartition("@")
            if f"{local.partition('+')[0]}@{domain}" in ours:
                self.wrong.append(f"{where}: {address} is a mailbox of the fleet, where it would be read as mail again")

    def _shares(self) -> None:
        shares: dict[str, float] = defaultdict(float)
        for name, client in self._file.clients.items():
            for route, raw in client.routes.items():
                if "account" in raw:
                    share = self._convert(raw, _Share, f"client {name}, route {route}")
                    if share is not None:
                        shares[share.account] += share.share_percent
                        if share.share_percent <= 0:
                            self.wrong.append(f"client {name}, route {route}: share_percent must be above 0")
        self.wrong += [
            f"account {account}: the clients' shares add up to {total:g} %, over 100 %"
            for account, total in shares.items()
            if total > 100.0001
        ]

    def _convert(self, raw: dict[str, Any], kind: type[Any], where: str) -> Any:
        try:
            return msgspec.convert(raw, kind)
        except msgspec.ValidationError as error:
            line = f"{where}: {error}"
            if line not in self.wrong:
                self.wrong.append(line)
            return None

    def _client(self, name: str, client: _Client) -> ClientDeclared:
        where = f"client {name}"
        if not is_id(name):
            self.wrong.append(f"{where}: a name has 1-128 of [A-Za-z0-9_.:-]; no request could name this one")
        if not client.postal_address.strip():
            self.wrong.append(f"{where}: postal_address is empty; the law asks for one in every mail")
        if not client.campaigns:
            self.wrong.append(f"{where}: campaigns is empty; every request would be refused")
        return ClientDeclared(
            ClientId(name),
            tuple(CampaignId(c) for c in client.campaigns),
            client.postal_address,
            self._pace(where, {**self._file.pace, **client.pace}),
            client.unsubscribe_url,
            tuple(country.upper() for country in client.without_consent_in),
            unsubscribe_from_all=client.unsubscribe_from_all,
            bounce_mailbox=self._bounce_box(f"{where}, bounce_mailbox", client.bounce_mailbox),
            unsubscribe_mailto=self._mailto(where, client),
            dmarc_mailbox=self._dmarc_box(f"{where}, dmarc_mailbox", client),
            forward_replies_to=client.forward_replies_to.lower(),
        )

    def _dmarc_box(self, where: str, client: _Client) -> BounceMailbox | None:
        """A mailbox that is read for something else is read once, in the folder of that."""
        box = self._bounce_box(where, client.dmarc_mailbox)
        others = {f"{name}@{group.domain}".lower() for group in client.mailboxes for name in group.names}
        if client.bounce_mailbox is not None:
            others.add(client.bounce_mailbox.address.lower())
        if box is not None and box.folder and box.address in others:
            self.wrong.append(
                f"{where}: {box.address} is read anyway, in one folder; leave the reports there, or name an address "
                "of their own (with the same username)"
            )
        return box

    def _bounce_box(self, where: str, box: _BounceBox | None) -> BounceMailbox | None:
        if box is None:
            return None
        self._address(where, box.address)
        if not _is_secret_ref(box.secret):
            self.wrong.append(f"{where}: secret is not of the form file:NAME or env:NAME")
        if not 0 < box.port < 65536:
            self.wrong.append(f"{where}: port must be within 1-65535")
        if not _AFTER_READING.fullmatch(box.after_reading):
            self.wrong.append(f'{where}: after_reading is "seen", "move:FOLDER" or not there')
        return BounceMailbox(
            MailboxAddress(box.address.lower()),
            box.host,
            box.secret,
            box.port,
            box.username,
            f"file:{box.ca_file}" if box.ca_file else "",
            box.after_reading,
            box.folder,
        )

    def _mailto(self, where: str, client: _Client) -> str:
        """The address is one whose mail is read: of the bounce mailbox's domain, or a mailbox of the client's."""
        address = client.unsubscribe_mailto.lower()
        if not address:
            return ""
        self._address(f"{where}, unsubscribe_mailto", address)
        domain = address.rpartition("@")[2]
        names = [d if isinstance(d, str) else d.name for d in client.domains]
        box = client.bounce_mailbox
        if domain not in map(str.lower, names) and (box is None or domain != box.address.lower().rpartition("@")[2]):
            self.wrong.append(
                f"{where}: unsubscribe_mailto {address} is neither at a domain of the client nor at that of its "
                "bounce_mailbox: nobody would read it"
            )
        local = address.rpartition("@")[0]
        if "+" in local or local == BOUNCES:
            self.wrong.append(f"{where}: unsubscribe_mailto {address}: a name that is not b, without a plus sign")
        return address

    def _address(self, where: str, address: str) -> None:
        try:
            normalise(address)
        except AddressInvalid as error:
            self.wrong.append(f"{where}: {error}")

    def _reading(self, where: str, way: _Way, client: _Client) -> None:
        """What the options of a route say about the mail that comes back."""
        options = way.options
        port = options.get("imap_port", "993")
        if not port.isdecimal() or not 0 < int(port) < 65536:
            self.wrong.append(f"{where}: imap_port must be within 1-65535")
        if not _AFTER_READING.fullmatch(options.get("imap_after_reading", "")):
            self.wrong.append(f'{where}: imap_after_reading is "seen", "move:FOLDER" or not there')
        if way.provider in API_PROVIDERS and options.get("imap_host") and not options.get("secret_ref"):
            self.wrong.append(
                f"{where}: with imap_host, the provider's key is named by the option secret_ref: the secret of a "
                "mailbox is its IMAP password"
            )
        if not options.get("bounce_domain"):
            return
        if way.provider != "smtp":
            self.wrong.append(f"{where}: bounce_domain is for smtp routes; {way.provider} has a return path of its own")
        if client.bounce_mailbox is None:
            self.wrong.append(f"{where}: with bounce_domain the client needs a bounce_mailbox that is read")

    def _pace(self, where: str, values: dict[str, Any]) -> Pace:
        try:
            pace = msgspec.convert(values, Pace, strict=True)
            zone(pace.time_zone)
        except (msgspec.ValidationError, ZoneUnknown) as error:
            self.wrong.append(f"{where}, pace: {error}")
            return Pace()
        unknown = set(values) - set(Pace.__struct_fields__)
        self.wrong.extend(f"{where}, pace: {key} is not a setting" for key in sorted(unknown))
        if not 0 <= pace.hour_from < pace.hour_to <= 24:
            span = f"hour_from {pace.hour_from} to hour_to {pace.hour_to}"
            self.wrong.append(f"{where}, pace: {span} is no span within 0-24")
        if min(pace.gap_seconds, pace.gap_jitter_seconds, pace.company_gap_seconds, pace.first_retry_seconds) < 0:
            self.wrong.append(f"{where}, pace: gaps and waits must not be negative")
        if max(pace.gap_seconds, pace.gap_jitter_seconds, pace.company_gap_seconds, pace.first_retry_seconds) > A_MONTH:
            self.wrong.append(f"{where}, pace: gaps and waits must be at most {A_MONTH} seconds, a month")
        if min(pace.slot_seconds, pace.max_attempts) < 1:
            self.wrong.append(f"{where}, pace: slot_seconds and max_attempts must be at least 1")
        if pace.slot_seconds > LONGEST_SLOT.total_seconds():
            most = f"{LONGEST_SLOT.total_seconds():.0f}"
            self.wrong.append(f"{where}, pace: slot_seconds must be at most {most}: ceilings in 24 hours count on it")
        return pace

    def _policy(self, name: str, client: _Client) -> Policy:
        wrong, policy = read_policy(self._file.policy, client.policy)
        self.wrong += [f"client {name}, policy{line}" for line in wrong]
        return policy

    def _route(self, client: str, name: str, raw: dict[str, Any]) -> RouteDeclared:
        where = f"client {client}, route {name}"
        nothing = RouteDeclared(ClientId(client), RouteId(name), "", "", 0)
        if "account" in raw:
            share = self._convert(raw, _Share, where)
            way = None if share is None else self._file.accounts.get(share.account)
            if share is not None and way is None:
                self.wrong.append(f"{where}: account {share.account} is not defined under [accounts]")
        else:
            share, way = None, self._convert(raw, _Way, where)
        if way is None:
            return nothing
        if way.provider not in PROVIDERS:
            self.wrong.append(f"{where}: provider {way.provider} is not known; known are {', '.join(PROVIDERS)}")
        if min(way.ceiling_24h, way.ceiling_per_second, way.monthly_usd, way.per_thousand_usd) < 0:
            self.wrong.append(f"{where}: ceilings and prices must not be negative")
        if not (way.ceiling_per_second == 0 or SLOWEST <= way.ceiling_per_second < 1_000_000):
            self.wrong.append(f"{where}: ceiling_per_second must be 0 for none, or at least one mail an hour")
        if not 1 <= way.pause_seconds <= A_MONTH:
            self.wrong.append(f"{where}: pause_seconds must be at least 1 and at most {A_MONTH}")
        if way.tls == "none" and way.host not in LOOPBACK:
            self.wrong.append(f'{where}: tls = "none" would send passwords in clear; only a loopback host may have it')
        if way.max_connections < 1 or not 0 <= way.port < 65536:
            self.wrong.append(f"{where}: max_connections must be at least 1 and port within 0-65535")
        self._reading(where, way, self._file.clients[client])
        if not all(map(is_ip, way.options.get("dns_ips", "").split())):
            self.wrong.append(f"{where}: dns_ips must be addresses with spaces between")
        part = 1.0 if share is None else share.share_percent / 100
        others = () if share is None else tuple(c for c in self._sharing(share.account) if c != client)
        return RouteDeclared(
            client=ClientId(client),
            route=RouteId(name),
            provider=way.provider,
            host=way.host,
            port=way.port,
            tls=way.tls,
            ca_file_ref=f"file:{way.ca_file}" if way.ca_file else "",
            max_connections=max(1, int(way.max_connections * part)),
            ceiling_24h=max(1, int(way.ceiling_24h * part)) if way.ceiling_24h else 0,
            ceiling_per_second=way.ceiling_per_second * part,
            accepts_basis=(share.accepts_basis if share is not None else ()) or way.accepts_basis or _allowed(way),
            account="" if share is None else share.account,
            shared_with=tuple(ClientId(c) for c in others),
            monthly_usd=round(way.monthly_usd * part, 2),
            per_thousand_usd=way.per_thousand_usd,
            options=way.options,
            pause_seconds=way.pause_seconds,
        )

    def _sharing(self, account: str) -> list[str]:
        clients = self._file.clients.items()
        return [name for name, c in clients if any(raw.get("account") == account for raw in c.routes.values())]

    def _domain(self, client: str, domain: _Domain, routes: set[str]) -> DomainDeclared:
        where = f"client {client}, domain {domain.name}"
        if domain.daily_quota < 0:
            self.wrong.append(f"{where}: daily_quota {domain.daily_quota} is negative")
        for route in domain.routes:
            if route not in routes:
                self.wrong.append(f"{where}: route {route} is not defined")
        try:
            normalise(f"postmaster@{domain.name}")
        except AddressInvalid as error:
            self.wrong.append(f"{where}: {error}")
        return DomainDeclared(ClientId(client), DomainName(domain.name), domain.daily_quota)

    def _grouped(self) -> Iterator[_Box]:
        for client, declared in self._file.clients.items():
            for group in declared.mailboxes:
                routes = tuple(group.routes or ([group.route] if group.route else []))
                for name in group.names:
                    mailbox = f"{name}@{group.domain}"
                    where = f"client {client}, mailbox {mailbox}"
                    yield _Box(
                        where, client, mailbox, group.daily_quota, routes, group.secret, group.display_name, mailbox
                    )

    def _listed(self, path: Path) -> Iterator[_Box]:
        for name in self._file.mailbox_files:
            try:
                with (path.parent / name).open(encoding="utf-8", newline="") as file:
                    yield from self._rows(name, csv.DictReader(file))
            except (OSError, UnicodeDecodeError) as error:
                self.wrong.append(f"mailbox file {name}: {error}")

    def _rows(self, name: str, rows: "csv.DictReader[str]") -> Iterator[_Box]:
        missing = set(CSV_COLUMNS[:5]) - set(rows.fieldnames or ())
        if missing:
            self.wrong.append(f"mailbox file {name}: columns are missing: {', '.join(sorted(missing))}")
            return
        for row in rows:
            where = f"{name} line {rows.line_num}"
            try:
                quota = int(row["daily_quota"] or "")
            except ValueError:
                self.wrong.append(f"{where}: daily_quota {row['daily_quota']!r} is not a number")
                continue
            routes = tuple(r for r in (row["routes"] or "").split(";") if r)
            mailbox = (row["mailbox"] or "").strip()
            username = row.get("username") or mailbox
            yield _Box(
                where, row["client"] or "", mailbox, quota, routes, row["secret"] or "", row.get("name") or "", username
            )

    def _mailbox(
        self, box: _Box, domains: dict[tuple[str, str], _Domain], routes: dict[str, set[str]]
    ) -> MailboxDeclared:
        where, domain_name = box.where, box.mailbox.lower().rpartition("@")[2]
        try:
            normalise(box.mailbox)
        except AddressInvalid as error:
            self.wrong.append(f"{where}: {error}")
        domain = domains.get((box.client, domain_name))
        if box.client not in routes:
            self.wrong.append(f"{where}: client {box.client!r} is not defined")
        elif domain is None:
            self.wrong.append(f"{where}: domain {domain_name} is not among the client's domains")
        if box.daily_quota < 0:
            self.wrong.append(f"{where}: daily_quota {box.daily_quota} is negative")
        if box.secret and not _is_secret_ref(box.secret):
            self.wrong.append(f"{where}: secret is not of the form file:NAME or env:NAME")
        for route in box.routes:
            if route not in routes.get(box.client, {route}):
                self.wrong.append(f"{where}: route {route} is not defined")
        good = tuple(r for r in box.routes if domain is None or not domain.routes or r in domain.routes)
        if not good:
            self.wrong.append(f"{where}: no route is left that domain {domain_name} has good records for")
        return MailboxDeclared(
            client=ClientId(box.client),
            mailbox=MailboxAddress(box.mailbox.lower()),
            routes=tuple(RouteId(r) for r in good),
            daily_quota=box.daily_quota,
            name=box.name,
            username=box.username,
            secret_ref=box.secret,
        )


def _is_secret_ref(secret: str) -> bool:
    """A password in the file would stand in Kafka for ever."""
    return re.fullmatch(r"(file|env):[^/]+", secret) is not None


def _lower(domain: _Domain) -> _Domain:
    """Return the domain as mailboxes are matched to it."""
    return msgspec.structs.replace(domain, name=domain.name.lower())


def _allowed(way: _Way) -> tuple[BasisType, ...]:
    """What a provider's own policy allows, unless the operator names another choice (email law is another gate)."""
    return WITH_CONSENT if way.provider in CONSENT_ONLY else EVERY_BASIS


def client_of(fact: Fact) -> ClientId:
    """Return the client whose partition a fact of the fleet goes to."""
    client: ClientId = fact.client  # type: ignore[attr-defined]  # every fact of schemas/fleet.py has one
    return client
