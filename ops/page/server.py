"""Serves the operator's page over HTTP: GET only, from Postgres only, in read-only transactions of a reading role."""

import asyncio
import ipaddress
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg
from aiohttp import web
from psycopg import IsolationLevel

from ops.page.frame import framed
from ops.page.views import VIEWS, Page, View, missing, runbook
from streams.settings import PageSettings

log = logging.getLogger("mailfleet.page")
HERE = Path(__file__).parent
AT_ONCE = 4
OPTIONS = "-c default_transaction_read_only=on -c statement_timeout=5000 -c timezone=UTC -c search_path=public"
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Server": "mailfleet",
}
AWAY = (
    "Postgres does not answer, so there is nothing to show. Mail goes on without it; this page tries again by itself."
)
SLOW = "Postgres took longer than 5 seconds and was stopped. Mail goes on; try again, or ask for less."
BARE = "Postgres has no mailfleet tables yet, or older ones: run `mailfleet migrate`."


class PageCannotListen(Exception):
    """The page's address is taken or not ours; the text says what to do."""


def open_reading(database_url: str) -> "psycopg.Connection[tuple[Any, ...]]":
    """Return a connection that can change nothing: as a role that only reads where the login may take it on."""
    connection = psycopg.connect(database_url, connect_timeout=3, options=OPTIONS, autocommit=True)
    try:
        connection.execute("set role pg_read_all_data")
    except psycopg.errors.InsufficientPrivilege:
        log.debug("this login may not take on pg_read_all_data: its transactions are read-only all the same")
    connection.autocommit = False
    connection.read_only = True
    connection.isolation_level = IsolationLevel.REPEATABLE_READ
    return connection


def shown(database_url: str, view: View, asked: Mapping[str, str]) -> Page:
    """Return a page, or in a sentence why there is none."""
    try:
        with open_reading(database_url) as connection:
            return view(connection, asked)
    except psycopg.errors.QueryCanceled:
        return _sorry(SLOW)
    except psycopg.OperationalError as error:
        log.warning("no page: %s", type(error).__name__)
        return _sorry(AWAY)
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn):
        return _sorry(BARE)


def _sorry(sentence: str) -> Page:
    page = missing(sentence)
    return Page("Nothing to show", page.body, 503)


def create_page(settings: PageSettings, database_url: str) -> web.Application:
    """Return the application."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def show(request: web.Request) -> web.Response:
        asked = {key: value.replace("\0", "") for key, value in request.query.items()}
        async with turns:
            page = await asyncio.to_thread(shown, database_url, VIEWS[request.path], asked)
        return _answer(page, request)

    async def show_runbook(request: web.Request) -> web.Response:
        return _answer(await asyncio.to_thread(runbook, request.query.get("name", "")), request)

    app = web.Application(middlewares=[_guard(settings)])
    app.on_response_prepare.append(_harden)
    app.add_routes([web.get(path, show) for path in VIEWS])
    app.add_routes([web.get("/runbook", show_runbook), *(_file(name, kind) for name, kind in FILES.items())])
    return app


FILES = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}


def _file(name: str, kind: str) -> web.RouteDef:
    body = (HERE / name).read_bytes()

    async def give(_request: web.Request) -> web.Response:
        return web.Response(body=body, content_type=kind, charset="utf-8")

    return web.get(f"/{name}", give)


def _answer(page: Page, request: web.Request) -> web.Response:
    whole = framed(page.title, page.body, request.path, request.query.get("q", ""))
    return web.Response(text=whole, status=page.status, content_type="text/html", charset="utf-8")


async def _harden(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)


def _guard(settings: PageSettings) -> Any:
    """Return what turns away other hosts' names (a web page elsewhere could point its own name here) and errors."""

    @web.middleware
    async def guard(request: web.Request, handler: Any) -> web.StreamResponse:
        if not _is_ours(request.host, settings.names):
            return web.Response(text="this page is not served under that name; see PAGE_NAMES\n", status=421)
        try:
            answer: web.StreamResponse = await handler(request)
        except web.HTTPNotFound:
            return _answer(missing(f"there is no page {request.path}"), request)
        return answer

    return guard


def _is_ours(host: str, names: tuple[str, ...]) -> bool:
    """Whether a Host header names this machine: localhost, an address, or a name that the settings allow."""
    name = host.lower().rpartition(":")[0] if host.rpartition(":")[2].isdigit() and not host.endswith("]") else host
    name = name.lower().strip("[]")
    if name == "localhost" or name in names:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


async def serve(settings: PageSettings, database_url: str, stop: asyncio.Event) -> None:
    """Serve until `stop`. Raises PageCannotListen."""
    runner = web.AppRunner(create_page(settings, database_url), access_log=None, shutdown_timeout=3)
    await runner.setup()
    try:
        await web.TCPSite(runner, settings.host, settings.port).start()
    except OSError as error:
        await runner.cleanup()
        raise PageCannotListen(
            f"the page cannot listen on {settings.host} port {settings.port} ({error.strerror}): "
            "set PAGE_PORT to another"
        ) from error
    log.info("the page is at http://%s:%d/", settings.host, settings.port)
    await stop.wait()
    await runner.cleanup()
