"""The bench of a provider, started for one test and watched for secrets in the logs."""

import io
import logging
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from adapters.mail import claimed_request, smtp_session
from tests.adapters.benches import BENCHES, Bench, SesBench, SmtpBench, Trouble

CONTRACT = "tests/adapters/test_contract.py::"
SITUATIONS = (
    ("8-bit, international", ("letters_of_all_kinds", "smtputf8")),
    ("refused", ("refusal", "server_that_closes", "addresses_in_a")),
    ("cut or silent before the claim", ("trouble_before",)),
    ("cut, slow or garbage after it", ("after_the_claim", "after_trouble", "breaks_within")),
    ("claim", ("claim", "cancelled")),
    ("oversize", ("oversize",)),
    ("accepted", ("accepted", "one_after_the_other", "at_the_same_time")),
    ("records", ("record_of",)),
)
"""Column → what stands in a test's name; the first that fits."""
PATIENCE_S = 8.0
SHORT_PATIENCE_S = 0.6


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the contract suite's counts: adapters × situations, good ones of all."""
    counts: dict[str, Counter[tuple[str, str]]] = {}
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            test, _, given = report.nodeid.removeprefix(CONTRACT).partition("[")
            names = [name for name in BENCHES if name in re.split(r"[-\]]", given)]
            if report.nodeid.startswith(CONTRACT) and names:
                counts.setdefault(names[0], Counter()).update([(_situation(test), outcome)])
    if not counts:
        return
    terminalreporter.section("the contract suite: passed of all")
    titles = [title for title, _ in (*SITUATIONS, ("others", ()))]
    for title in titles:
        cells = [f"{name} {_of(counts[name], title)}" for name in BENCHES if name in counts]
        terminalreporter.write_line(f"{title:32}" + "".join(f"{cell:18}" for cell in cells))


def _situation(test: str) -> str:
    return next((title for title, words in SITUATIONS if any(word in test for word in words)), "others")


def _of(counts: "Counter[tuple[str, str]]", title: str) -> str:
    total = sum(count for (situation, _), count in counts.items() if situation == title)
    return f"{counts[title, 'passed']}/{total}"


@asynccontextmanager
async def running(bench: Bench, folder: Path, patience_s: float) -> AsyncIterator[None]:
    """Run the bench; afterwards no secret of it may stand in any log line."""
    out = io.StringIO()
    handler, root = logging.StreamHandler(out), logging.getLogger()
    level, connect_s, body_s = root.level, smtp_session.CONNECT_S, smtp_session.BODY_S
    http_s = claimed_request.CONNECT_S
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
