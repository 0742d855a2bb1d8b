"""The `mailfleet` command: one group, its commands in ops/commands/."""

import sys

import click
import psycopg
from confluent_kafka import KafkaException
from rich.console import Console

from adapters.dns.look import EyesWrong
from adapters.objects import StoreFailed
from adapters.secrets import SecretMissing
from ops.archive.restore import NotEmpty
from ops.archive.segments import ArchiveBroken
from ops.bulk import OffsetTaken
from ops.commands import (
    analysts,
    archive,
    bench,
    classify,
    cost,
    dns,
    doctor,
    door,
    fleet,
    log,
    read_dmarc,
    read_mail,
    rebuild,
    routes,
    senders,
    sends,
    simulate,
    suppressions,
    up,
    what_if,
)
from ops.commands.sends import RequestFileWrong
from ops.embedded import CannotStart
from ops.fleet_file import FleetFileWrong
from ops.logs import quiet_libraries
from ops.metabase.api import MetabaseRefused
from ops.metabase.files import DashboardFileWrong
from ops.simulation.world_file import WorldFileWrong
from ops.stack import StackBroken
from projections.analysts import ClientNameWrong
from projections.rebuild import CannotRebuild
from schemas.entry import JournalBroken
from streams.log.kafka import AppendUncertain, LogUnreachable
from streams.log.topics import TopicsWrong
from streams.settings import SettingMissing

errors = Console(stderr=True)
EX_CONFIG = 78


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="mailfleet")
def cli() -> None:
    """mailfleet: outreach mail for agencies; no send twice, none lost in silence.

    Settings come from the environment: KAFKA_BROKERS (host:port, ...), DATABASE_URL, MAILFLEET_HOME (secrets and
    local state), MAILFLEET_PREFIX (before every topic name), KAFKA_SECURITY_PROTOCOL, KAFKA_SASL_MECHANISM,
    KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD; for DNS checks DNS_RESOLVERS (address or address:port, ...; else the
    system's), DNS_RECEIVERS ("off": nobody is asked for recipients' MX), DNS_BLOCKLISTS (names), DNS_SPAMHAUS_KEY (a
    secret), DNS_RDAP_URL (or "off"); POSTMASTER_CREDENTIALS (a secret: Google is asked for spam rates); for the door
    DOOR_HOST, DOOR_PORT and more (`mailfleet door --help`); to pass letters on FORWARD_SMTP (host:port), FORWARD_FROM,
    FORWARD_SECRET, FORWARD_USER, FORWARD_TLS, FORWARD_CA; for the archive ARCHIVE_URL and more (`mailfleet archive
    --help`); for the bot TELEGRAM_TOKEN (a secret), TELEGRAM_CHAT, TELEGRAM_PEOPLE (52001:lena,...), TELEGRAM_QUIET
    (22-7), TELEGRAM_ZONE, HEARTBEAT_URL; for the operator's page PAGE_HOST, PAGE_PORT, PAGE_NAMES; for each process
    MAILFLEET_NAME, MAILFLEET_KEY_FILE, MAILFLEET_SESSION_TIMEOUT_S, METRICS_HOST, METRICS_PORT, LOG_LEVEL, LOG_FORMAT
    (json or text) and LOG_FOLDER (NAME.log is written there too). A secret is file:NAME, below MAILFLEET_HOME/secrets
    (.mailfleet/fleet/home with `mailfleet up`), or env:NAME. Without KAFKA_BROKERS, commands speak to the fleet that
    `mailfleet up` runs in this folder.

    Exit codes: 0 all well, 1 what was asked is not so or failed, 2 wrong usage, 78 a setting is missing,
    130 interrupted.
    """


for command in (
    up.up,
    fleet.apply,
    fleet.import_,
    fleet.secrets,
    sends.send,
    sends.status,
    sends.why,
    sends.replies,
    fleet.stop,
    fleet.start,
    senders.pause,
    senders.resume,
    senders.release_list,
    sends.dead_letters,
    suppressions.suppress,
    suppressions.unsuppress,
    suppressions.suppressions,
    suppressions.forget,
    suppressions.export_person,
    routes.test_send,
    doctor.doctor,
    door.door,
    dns.check_domain,
    dns.dns_records,
    log.verify,
    log.replay,
    rebuild.rebuild,
    log.topics,
    log.migrate,
    log.key,
    analysts.analyst_role,
    analysts.metabase,
    archive.archive,
    archive.restore,
    bench.bench,
    classify.classify,
    simulate.simulate,
    what_if.what_if,
    cost.cost,
    read_mail.read_mail,
    read_dmarc.read_dmarc,
):
    cli.add_command(command)


def main() -> None:
    """Run the command; what is known to go wrong ends in one sentence and an exit code."""
    quiet_libraries()
    try:
        cli(standalone_mode=False)
    except click.Abort:
        _end("interrupted", 130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except SettingMissing as error:
        _end(str(error), EX_CONFIG)
    except (
        ArchiveBroken,
        CannotRebuild,
        NotEmpty,
        OffsetTaken,
        StoreFailed,
        TopicsWrong,
        FleetFileWrong,
        RequestFileWrong,
        JournalBroken,
        LogUnreachable,
        AppendUncertain,
        CannotStart,
        StackBroken,
        EyesWrong,
        WorldFileWrong,
        MetabaseRefused,
        DashboardFileWrong,
        ClientNameWrong,
        SecretMissing,
    ) as error:
        _end(str(error), 1)
    except KafkaException as error:
        _end(f"Kafka: {error.args[0].str()}; is KAFKA_BROKERS right and the broker up?", 1)
    except psycopg.errors.UndefinedTable:
        _end("Postgres has no mailfleet tables yet: run `mailfleet migrate`", 1)
    except psycopg.OperationalError as error:
        _end(f"Postgres: {str(error).strip()}; is DATABASE_URL right and the server up?", 1)


def _end(sentence: str, code: int) -> None:
    errors.print(f"mailfleet: {sentence}", style="red", highlight=False, soft_wrap=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
