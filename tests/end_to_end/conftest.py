"""Mailgun's stand-in for whole stories."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from tests.adapters.mailgun_server import MailgunServer
from tests.end_to_end.mailgun_way import DOMAIN, KEY


@pytest.fixture
def mailgun() -> Iterator[MailgunServer]:
    """Mailgun's API in a thread of its own."""
    loop = asyncio.new_event_loop()
    server = MailgunServer(None, KEY, DOMAIN)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)
    yield server
    asyncio.run_coroutine_threadsafe(server.stop(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
