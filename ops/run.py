"""Runs one process of the pipeline: `python -m ops.run ROLE`; the roles stand in `RUN`.

Exit codes: 0 after SIGTERM or SIGINT, 78 (configuration) when a person must act, 1 otherwise; the
supervisor starts anew what ends with 1.
"""

import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from prometheus_client import start_http_server

from adapters.dns.look import EyesWrong, named_resolvers, open_eyes
from adapters.dns.receivers import KnownReceivers, MxReceivers
from adapters.mail.mailgun import MailgunAdapter
from adapters.objects import StoreFailed
from adapters.reports.sns import Amazon
from adapters.secrets import SecretMissing, Secrets
from ops.archive.archiver import Archiver
from ops.archive.logs import ship
from ops.archive.shelf import Shelf
from ops.archive.store import archived_topics, open_shelf
from ops.logs import set_up
from ops.page.server import PageCannotListen, serve
from ops.sources import read_model_sources
from ops.telegram_bot import teller_of
from ops.watchdog import watch
from projections.migrate import migrate
from projections.projector import Projector
from schemas.entry import JournalBroken
from schemas.topics import (
    ALERT_POSTS,
    ALERTS,
    DELIVERY_INPUTS,
    DELIVERY_TICKS,
    DNS_OBSERVATIONS,
    FLEET_INPUTS,
    FLEET_JOURNAL,
    FLEET_TICKS,
    LOG_POSITIONS,
    MAIL_POSITIONS,
    SEND_REQUESTS,
)
from streams.agents.door import Door
from streams.agents.intake import Intake
from streams.agents.poll_mailgun import MailgunLogs
from streams.agents.poll_postmaster import PostmasterPoller, postmaster_of
from streams.agents.provider_reports import Publisher
from streams.agents.read_mail import MailReader
from streams.agents.side_by_side import side_by_side
from streams.agents.tell_people import CannotTell
from streams.agents.watch_dns import DnsWatcher
from streams.app import create_app, run_worker
from streams.log.kafka import Reader, Writer
from streams.log.topics import TopicsWrong, check
from streams.roles import Role, places_of
from streams.settings import SettingMissing, Settings, from_environment

EX_CONFIG = 78
LOGS_EVERY_S = 60.0
log = logging.getLogger("mailfleet")


async def _worker(settings: Settings, stop: asyncio.Event, role: Role) -> None:
    places = await asyncio.to_thread(places_of, settings, role)
    worker = create_app(settings, role, places)
    watching = asyncio.create_task(watch(worker))
    try:
        await run_worker(worker, stop)
    finally:
        watching.cancel()


async def _intake(settings: Settings, stop: asyncio.Event) -> None:
    wanted = {settings.topic(SEND_REQUESTS): SEND_REQUESTS}
    ids = await asyncio.to_thread(check, settings.connection, wanted)
    known = MxReceivers(named_resolvers(settings.dns.resolvers)) if settings.dns.receivers else KnownReceivers()
    intake = Intake(settings, ids[settings.topic(SEND_REQUESTS)], known)
    await _until(stop, intake.run(), intake.stop)


async def _projector(settings: Settings, stop: asyncio.Event) -> None:
    sources = await asyncio.to_thread(read_model_sources, settings)
    await asyncio.to_thread(migrate, settings.database_url)
    projector = Projector(settings.connection.options(), settings.database_url, sources)
    await _until(stop, projector.run(), projector.stop)


async def _dns(settings: Settings, stop: asyncio.Event) -> None:
    wanted = {settings.topic(t): t for t in (DNS_OBSERVATIONS, FLEET_INPUTS, FLEET_JOURNAL)}
    await asyncio.to_thread(check, settings.connection, wanted)
    given = settings.dns
    secrets = Secrets(settings.secrets_folder)
    eyes = open_eyes(given.resolvers, given.blocklists, given.rdap_url, given.spamhaus_key_ref, secrets)
    watcher = DnsWatcher(settings, eyes)
    running = [watcher.run()]
    reader, writer = Reader(settings.connection), Writer(settings.connection)
    postmaster = postmaster_of(settings)
    if postmaster is not None:
        running.append(PostmasterPoller(settings, reader, writer, postmaster).run())
    try:
        await _until(stop, side_by_side(*running), watcher.stop)
    finally:
        if postmaster is not None:
            await postmaster.close()
        await writer.close()
        await reader.close()


async def _mail(settings: Settings, stop: asyncio.Event) -> None:
    wanted = {settings.topic(t): t for t in (DELIVERY_INPUTS, FLEET_INPUTS, MAIL_POSITIONS, FLEET_JOURNAL)}
    await asyncio.to_thread(check, settings.connection, wanted)
    mail = MailReader(settings, Reader(settings.connection), Writer(settings.connection))
    await _until(stop, mail.run(), mail.stop)


async def run_door(settings: Settings, stop: asyncio.Event) -> None:
    """Run the door, and the reading of Mailgun's logs beside it. Raises SettingMissing."""
    if not settings.door.port:
        raise SettingMissing("DOOR_PORT is not set: give the port on which the door listens")
    wanted = {settings.topic(t): t for t in (DELIVERY_INPUTS, FLEET_JOURNAL, LOG_POSITIONS)}
    await asyncio.to_thread(check, settings.connection, wanted)
    reader, writer = Reader(settings.connection), Writer(settings.connection)
    mailgun = MailgunAdapter(Secrets(settings.secrets_folder))
    publisher = Publisher(settings, writer, "door")
    door = Door(settings, reader, publisher, Amazon())
    running = [door.run()]
    if settings.door.poll_mailgun_s:
        running.append(MailgunLogs(settings, reader, writer, publisher, mailgun).run())
    try:
        await _until(stop, side_by_side(*running), door.stop)
    finally:
        await mailgun.close()
        await writer.close()
        await reader.close()


async def _telegram(settings: Settings, stop: asyncio.Event) -> None:
    wanted = {settings.topic(t): t for t in (ALERTS, ALERT_POSTS, FLEET_INPUTS, FLEET_TICKS, DELIVERY_TICKS)}
    await asyncio.to_thread(check, settings.connection, wanted)
    teller = teller_of(settings)
    await _until(stop, teller.run(), teller.stop)
    await teller.telegram.close()


async def _page(settings: Settings, stop: asyncio.Event) -> None:
    await serve(settings.page, settings.database_url, stop)


async def _archive(settings: Settings, stop: asyncio.Event) -> None:
    topics = archived_topics(settings)
    ids = await asyncio.to_thread(check, settings.connection, topics)
    shelf = await asyncio.to_thread(open_shelf, settings)
    archiver = Archiver(settings.connection.options(), topics, ids, shelf)
    shipping = asyncio.create_task(_ship_logs(settings, shelf))
    try:
        await _until(stop, archiver.run(settings.archive.segment_s), archiver.stop)
    finally:
        shipping.cancel()


async def _ship_logs(settings: Settings, shelf: Shelf) -> None:
    """Archive the logs in ARCHIVE_LOGS once a minute; what fails is tried again."""
    while settings.archive.logs:
        try:
            await asyncio.to_thread(ship, shelf.store, Path(settings.archive.logs), settings.name)
        except (StoreFailed, OSError) as error:
            log.warning("logs wait for the archive: %s", error)
        await asyncio.sleep(LOGS_EVERY_S)


async def _until(stop: asyncio.Event, running: Any, end: Callable[[], None]) -> None:
    task = asyncio.ensure_future(running)
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    end()
    await task


Run = Callable[[Settings, asyncio.Event], Awaitable[None]]
RUN: Mapping[str, Run] = {
    "intake": _intake,
    "delivery": partial(_worker, role="delivery"),
    "fleet": partial(_worker, role="fleet"),
    "projector": _projector,
    "dns": _dns,
    "mail": _mail,
    "door": run_door,
    "telegram": _telegram,
    "page": _page,
    "archive": _archive,
}
"""Role → what runs it until the event is set."""


async def _main(run: Run, settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if settings.metrics_port:
        start_http_server(settings.metrics_port, addr=settings.metrics_host)
    await run(settings, stop)


def main() -> int:
    """Run the role named on the command line."""
    run = RUN.get(sys.argv[1]) if len(sys.argv) == 2 else None
    if run is None:
        print(f"usage: python -m ops.run {'|'.join(RUN)}", file=sys.stderr)
        return 2
    try:
        settings = from_environment()
        set_up(settings.name, settings.log_level, settings.log_format, settings.log_folder)
        asyncio.run(_main(run, settings))
    except (SettingMissing, SecretMissing, CannotTell, EyesWrong, TopicsWrong, JournalBroken) as error:
        log.critical("%s", error)
        return EX_CONFIG
    except PageCannotListen as error:
        log.critical("%s", error)
        return 1  # who holds its port may go
    except Exception:
        log.critical("ended by an error that is not known; the supervisor starts it anew", exc_info=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
