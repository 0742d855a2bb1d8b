"""The page over a fleet that everybody of this module reads: made once, for nobody can change it."""

import asyncio
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from aiohttp import web

from ops.embedded import EmbeddedPostgres
from ops.page.server import create_page
from streams.settings import PageSettings
from tests.page.fleet import Fleet, fill

EVIL = "\"'><xss onx=1>&amp;<script>alert(1)</script>\u202e%00{{7*7}}\u0007"


@pytest.fixture(scope="session")
def usual(postgres: EmbeddedPostgres) -> Iterator[str]:
    """The URL of a database with a month of a fleet in it."""
    yield from _filled(postgres, Fleet())


@pytest.fixture(scope="session")
def hostile(postgres: EmbeddedPostgres) -> Iterator[str]:
    """The same, every name and text hostile."""
    yield from _filled(postgres, Fleet(EVIL, days=4, a_day=10))


def _filled(postgres: EmbeddedPostgres, fleet: Fleet) -> Iterator[str]:
    name = f"page{uuid.uuid4().hex[:12]}"
    postgres.create_database(name)
    fill(postgres.url_of(name), fleet)
    yield postgres.url_of(name)
    postgres.drop_database(name)


@contextmanager
def served(database: str, settings: PageSettings | None = None) -> Iterator[str]:
    """Serve the page in a thread on a free port of loopback; give its URL."""
    loop, ready, found = asyncio.new_event_loop(), threading.Event(), []
    ending = asyncio.Event()

    async def run() -> None:
        runner = web.AppRunner(create_page(settings or PageSettings(), database), shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        found.append(runner.addresses[0][1])
        ready.set()
        await ending.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: (loop.run_until_complete(run()), loop.close()))
    thread.start()
    assert ready.wait(10)
    yield f"http://127.0.0.1:{found[0]}"
    loop.call_soon_threadsafe(ending.set)
    thread.join(10)


@pytest.fixture(scope="session")
def page(usual: str) -> Iterator[str]:
    """The page's URL over the usual fleet."""
    with served(usual) as url:
        yield url
