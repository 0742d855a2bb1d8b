"""The settings of a process. This file alone reads the environment."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from schemas.topics import Topic
from streams.log.kafka import Connection


class SettingMissing(Exception):
    """A setting is missing or wrong; the text names the variable and says what it should be."""


class DnsSettings(msgspec.Struct, frozen=True):
    """Whom the DNS watcher and its commands ask."""

    resolvers: tuple[str, ...] = ()  # "address" or "address:port"; none: the system's
    blocklists: tuple[str, ...] = ()  # names in adapters/dns/blocklists.py; none by default: operators have manners
    rdap_url: str = "https://rdap.org/domain/"  # before the domain's name; "off" asks no registry
    spamhaus_key_ref: str = ""  # the secret with the key of Spamhaus's data query service
    receivers: bool = True  # whether intake asks for the MX of recipients' domains


class DoorSettings(msgspec.Struct, frozen=True):
    """Where the door listens, and whom it believes. Secrets are named, never said."""

    host: str = "127.0.0.1"
    port: int = 0  # 0: no door
    path_ref: str = ""  # the secret with the first part of the webhooks' path; without one there are no webhooks
    mailgun_keys: tuple[
        str, ...
    ] = ()  # secrets with webhook signing keys: "file:NAME" or "DOMAIN-OR-ACCOUNT=file:NAME"
    sns_topics: tuple[str, ...] = ()  # ARNs of the topics that are ours
    head_s: float = 10.0  # that a client may take for its request's head
    body_s: float = 20.0
    connections: int = 256
    poll_mailgun_s: float = 300.0  # between two looks into Mailgun's logs; 0 never looks


class PostmasterSettings(msgspec.Struct, frozen=True):
    """Whether Google is asked for the spam rates of our domains, and as whom."""

    credentials_ref: str = ""  # the secret with the JSON of a service account or an authorised user; "" asks nobody
    url: str = ""  # "" is Google's


class TelegramSettings(msgspec.Struct, frozen=True):
    """Whom the bot tells, who may order, when it is quiet, and to whom it gives a sign of life."""

    token_ref: str = ""
    chat: int = 0
    people: tuple[tuple[int, str], ...] = ()  # Telegram user id, name
    quiet_from: int = 22  # hours, local to `zone`; equal ones are never quiet
    quiet_to: int = 7
    zone: str = "UTC"
    url: str = "https://api.telegram.org/bot"
    heartbeat_url: str = ""


class PageSettings(msgspec.Struct, frozen=True):
    """Where the operator's page listens, and under which names of its own it may be asked for."""

    host: str = "127.0.0.1"
    port: int = 8090
    names: tuple[str, ...] = ()  # beside localhost and addresses: what a proxy before it passes on as Host


class ForwardSettings(msgspec.Struct, frozen=True):
    """The operator's own SMTP account, over which letters are passed on to people. Without a host there is none."""

    host: str = ""
    port: int = 587
    tls: Literal["starttls", "implicit", "none"] = "starttls"
    sender: str = ""
    username: str = ""
    secret_ref: str = ""
    ca_ref: str = ""  # a PEM file of certificates to trust beside the system's


class ArchiveSettings(msgspec.Struct, frozen=True):
    """Where the archive is and who may open it."""

    url: str = ""  # s3://bucket/prefix or file:///folder; "" is no archive
    endpoint_url: str = ""  # of a store that is not Amazon's, such as https://s3.eu-central-003.backblazeb2.com
    region: str = ""
    keys_ref: str = "file:archive.keys"  # the secret with KEY_ID:SECRET of the store
    key_ref: str = "file:archive.key"  # the secret with 64 hex digits that seals what is private
    segment_s: float = 300.0  # how long a record waits for others before its segment is written
    logs: str = ""  # a folder whose *.log files go there too


class Settings(msgspec.Struct, frozen=True):
    """How this process reaches the world. `prefix` goes before every topic and group name."""

    connection: Connection
    prefix: str
    home: Path  # secrets/ and state/ stand below it
    name: str  # of this worker; stays the same over restarts
    database_url: str = ""
    session_timeout_s: float = 6.0
    key_file: Path = Path()
    metrics_host: str = "127.0.0.1"
    metrics_port: int = 0  # 0 is none
    log_level: str = "WARNING"
    log_format: Literal["json", "text"] = "json"
    log_folder: str = ""  # where NAME.log is written beside standard error
    dns: DnsSettings = DnsSettings()
    postmaster: PostmasterSettings = PostmasterSettings()
    door: DoorSettings = DoorSettings()
    telegram: TelegramSettings = TelegramSettings()
    page: PageSettings = PageSettings()
    archive: ArchiveSettings = ArchiveSettings()
    forward: ForwardSettings = ForwardSettings()

    @property
    def secrets_folder(self) -> Path:
        """Where `file:` secrets stand."""
        return self.home / "secrets"

    def topic(self, topic: Topic) -> str:
        """Return the topic's name on the cluster."""
        return self.prefix + topic.name

    def fleet_key(self) -> bytes:
        """Return the key of all HMACs. Raises SettingMissing: losing it loses every suppression."""
        try:
            key = self.key_file.read_bytes().strip()
        except OSError as error:
            raise SettingMissing(
                f"the fleet's key {self.key_file} cannot be read ({error.strerror}): restore it from its backup; "
                "`mailfleet key` makes one for a new fleet only."
            ) from error
        if len(key) < 32:
            raise SettingMissing(f"the fleet's key {self.key_file} is shorter than 32 bytes")
        return key


_SECURITY = {
    "KAFKA_SECURITY_PROTOCOL": "security_protocol",
    "KAFKA_SASL_MECHANISM": "sasl_mechanism",
    "KAFKA_SASL_USERNAME": "sasl_plain_username",
    "KAFKA_SASL_PASSWORD": "sasl_plain_password",
}


def _number(environ: Mapping[str, str], name: str, default: str) -> float:
    try:
        return float(environ.get(name, default))
    except ValueError as error:
        raise SettingMissing(f"{name} is {environ[name]!r}, which is no number") from error


def home_from(environ: Mapping[str, str]) -> Path:
    """Return where secrets and local state stand."""
    return Path(environ.get("MAILFLEET_HOME", ".mailfleet/home"))


def database_from(environ: Mapping[str, str]) -> str:
    """Return the URL of Postgres, "" when none is named; for what needs no Kafka."""
    return environ.get("DATABASE_URL", "")


def dns_from(environ: Mapping[str, str]) -> DnsSettings:
    """Return the settings of the DNS checks, which need no Kafka."""
    return DnsSettings(
        resolvers=tuple(environ.get("DNS_RESOLVERS", "").replace(",", " ").split()),
        blocklists=tuple(environ.get("DNS_BLOCKLISTS", "").lower().replace(",", " ").split()),
        rdap_url=environ.get("DNS_RDAP_URL", DnsSettings().rdap_url),
        spamhaus_key_ref=environ.get("DNS_SPAMHAUS_KEY", ""),
        receivers=environ.get("DNS_RECEIVERS", "on").lower() != "off",
    )


def postmaster_from(environ: Mapping[str, str]) -> PostmasterSettings:
    """Return the settings of the questions to Google."""
    return PostmasterSettings(environ.get("POSTMASTER_CREDENTIALS", ""), environ.get("POSTMASTER_URL", ""))


def door_from(environ: Mapping[str, str]) -> DoorSettings:
    """Return the settings of the door. Raises SettingMissing."""
    usual = DoorSettings()
    return DoorSettings(
        host=environ.get("DOOR_HOST", usual.host),
        port=int(_number(environ, "DOOR_PORT", "0")),
        path_ref=environ.get("DOOR_PATH", ""),
        mailgun_keys=tuple(environ.get("DOOR_MAILGUN_KEYS", "").replace(",", " ").split()),
        sns_topics=tuple(environ.get("DOOR_SNS_TOPICS", "").replace(",", " ").split()),
        head_s=_number(environ, "DOOR_HEAD_S", str(usual.head_s)),
        body_s=_number(environ, "DOOR_BODY_S", str(usual.body_s)),
        connections=int(_number(environ, "DOOR_CONNECTIONS", str(usual.connections))),
        poll_mailgun_s=_number(environ, "DOOR_POLL_MAILGUN_S", str(usual.poll_mailgun_s)),
    )


def telegram_from(environ: Mapping[str, str]) -> TelegramSettings:
    """Return the settings of the Telegram bot. Raises SettingMissing."""
    quiet = environ.get("TELEGRAM_QUIET", "22-7").split("-")
    pairs = [pair.split(":", 1) for pair in environ.get("TELEGRAM_PEOPLE", "").replace(",", " ").split()]
    try:
        return TelegramSettings(
            token_ref=environ.get("TELEGRAM_TOKEN", ""),
            chat=int(environ.get("TELEGRAM_CHAT", "0")),
            people=tuple((int(person), name) for person, name in pairs),
            quiet_from=int(quiet[0]) % 24,
            quiet_to=int(quiet[1]) % 24,
            zone=environ.get("TELEGRAM_ZONE", "UTC"),
            url=environ.get("TELEGRAM_URL", TelegramSettings().url),
            heartbeat_url=environ.get("HEARTBEAT_URL", ""),
        )
    except (ValueError, IndexError) as error:
        raise SettingMissing(
            "TELEGRAM_CHAT is a number, TELEGRAM_PEOPLE like 52001:lena,52002:tom, TELEGRAM_QUIET like 22-7"
        ) from error


def page_from(environ: Mapping[str, str]) -> PageSettings:
    """Return the settings of the operator's page. Raises SettingMissing."""
    usual = PageSettings()
    return PageSettings(
        host=environ.get("PAGE_HOST", usual.host),
        port=int(_number(environ, "PAGE_PORT", str(usual.port))),
        names=tuple(environ.get("PAGE_NAMES", "").lower().replace(",", " ").split()),
    )


def _archive_from(environ: Mapping[str, str]) -> ArchiveSettings:
    usual = ArchiveSettings()
    return ArchiveSettings(
        url=environ.get("ARCHIVE_URL", ""),
        endpoint_url=environ.get("ARCHIVE_ENDPOINT_URL", ""),
        region=environ.get("ARCHIVE_REGION", ""),
        keys_ref=environ.get("ARCHIVE_SECRET", usual.keys_ref),
        key_ref=environ.get("ARCHIVE_KEY", usual.key_ref),
        segment_s=_number(environ, "ARCHIVE_SEGMENT_S", str(usual.segment_s)),
        logs=environ.get("ARCHIVE_LOGS", ""),
    )


def _forward_from(environ: Mapping[str, str]) -> ForwardSettings:
    """FORWARD_SMTP is host or host:port. Raises SettingMissing."""
    host, _, port = environ.get("FORWARD_SMTP", "").partition(":")
    tls, sender = environ.get("FORWARD_TLS", "starttls"), environ.get("FORWARD_FROM", "")
    if not host:
        return ForwardSettings()
    if not (port or "587").isdecimal() or tls not in ("starttls", "implicit", "none"):
        raise SettingMissing("FORWARD_SMTP is host or host:port, FORWARD_TLS is starttls, implicit or none")
    if "@" not in sender or not sender.isascii():
        raise SettingMissing("FORWARD_FROM is not set: the address that letters are passed on from, of your own")
    return ForwardSettings(
        host=host,
        port=int(port or "587"),
        tls=tls,  # type: ignore[arg-type]  # checked above
        sender=sender,
        username=environ.get("FORWARD_USER", sender),
        secret_ref=environ.get("FORWARD_SECRET", ""),
        ca_ref=environ.get("FORWARD_CA", ""),
    )


def from_environment(environ: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings. Raises SettingMissing."""
    brokers = environ.get("KAFKA_BROKERS")
    if not brokers:
        raise SettingMissing("KAFKA_BROKERS is not set: give host:port of the brokers, separated by commas")
    home = home_from(environ)
    return Settings(
        connection=Connection(brokers, {our: environ[env] for env, our in _SECURITY.items() if environ.get(env)}),
        prefix=environ.get("MAILFLEET_PREFIX", ""),
        home=home,
        name=environ.get("MAILFLEET_NAME", "worker-1"),
        database_url=database_from(environ),
        session_timeout_s=_number(environ, "MAILFLEET_SESSION_TIMEOUT_S", "6"),
        key_file=Path(environ.get("MAILFLEET_KEY_FILE", str(home / "secrets" / "fleet.key"))),
        metrics_host=environ.get("METRICS_HOST", "127.0.0.1"),
        metrics_port=int(_number(environ, "METRICS_PORT", "0")),
        log_level=environ.get("LOG_LEVEL", "WARNING").upper(),
        log_format="text" if environ.get("LOG_FORMAT") == "text" else "json",
        log_folder=environ.get("LOG_FOLDER", ""),
        dns=dns_from(environ),
        postmaster=postmaster_from(environ),
        door=door_from(environ),
        telegram=telegram_from(environ),
        page=page_from(environ),
        archive=_archive_from(environ),
        forward=_forward_from(environ),
    )
