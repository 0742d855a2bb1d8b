"""The bench of a provider, started for one test and watched for secrets in the logs."""

import io
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from adapters.mail import claimed_request, smtp_session
from tests.adapters.benches import BENCHES, Bench, SesBench, SmtpBench, Trouble

PATIENCE_S = 8.0
SHORT_PATIENCE_S = 0.6


@asynccontextmanager
async def running(bench: Bench, folder: Path, patience_s: float) -> AsyncIterator[None]:
    """Run the bench; afterwards no secret of it may stand in any log line."""
    out = io.StringIO()
    handler, root = logging.StreamHandler(out), logging.getLogger()
    level, http_s = root.level, claimed_request.CONNECT_S
    connect_s, body_s = smtp_session.CONNECT_S, smtp_session.BODY_S
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        await bench.start(folder, patience_s)
        yield
    finally:
        await bench.stop()
        smtp_session.CONNECT_S, smtp_session.BODY_S, claimed_request.CONNECT_S = connect_s, body_s, http_s
        root.removeHandler(handler)
        root.setLevel(level)
    assert not any(word in out.getvalue() for word in bench.secret_words)


@pytest_asyncio.fixture
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    """The provider that the test is parametrised with; it waits briefly where the trouble is silence."""
    trouble = request.node.callspec.params.get("trouble")
    short = isinstance(trouble, Trouble) and trouble.short_patience
    made: Bench = BENCHES[request.param]()
    async with running(made, tmp_path, SHORT_PATIENCE_S if short else PATIENCE_S):
        yield made


@pytest_asyncio.fixture
async def smtp_bench(tmp_path: Path) -> AsyncIterator[SmtpBench]:
    """The SMTP bench with STARTTLS."""
    made = SmtpBench()
    async with running(made, tmp_path, PATIENCE_S):
        yield made


@pytest_asyncio.fixture
async def ses_bench(tmp_path: Path) -> AsyncIterator[SesBench]:
    """The SES bench."""
    made = SesBench()
    async with running(made, tmp_path, PATIENCE_S):
        yield made
