"""The suppression lists and logs of providers, whole: page by page, and what goes wrong on the way."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from adapters.interface import RecordsUnavailable
from tests.adapters.benches import MailgunBench
from tests.adapters.conftest import PATIENCE_S, running
from tests.adapters.mailgun_server import Answer
from tests.adapters.ses_server import Fault

HOUR = timedelta(hours=1)


@pytest_asyncio.fixture
async def mailgun_bench(tmp_path: Path) -> AsyncIterator[MailgunBench]:
    """The bench of Mailgun."""
    made = MailgunBench()
    async with running(made, tmp_path, PATIENCE_S):
        yield made


async def test_mailguns_three_lists_are_read_to_their_ends(mailgun_bench: MailgunBench) -> None:
    dated = {"created_at": "Fri, 21 Oct 2011 11:02:55 GMT"}
    mailgun_bench.server.lists = {
        "bounces": [{"address": f"b{n}@customer.test", "code": "550", "error": "", **dated} for n in range(2_345)],
        "complaints": [{"address": "c@customer.test", **dated}],
        "unsubscribes": [{"address": "u@customer.test", "tags": ["*"], **dated}],
    }
    found = [one async for one in mailgun_bench.adapter.suppressions(mailgun_bench.call)]
    assert found[:2_345] == [(f"b{n}@customer.test", "hard_bounce") for n in range(2_345)]
    assert found[2_345:] == [("c@customer.test", "complaint"), ("u@customer.test", "unsubscribe")]


async def test_mailguns_key_goes_to_no_other_host(mailgun_bench: MailgunBench) -> None:
    page = b'{"items": [{"address": "a@customer.test"}], "paging": {"next": "https://evil.test/v3/firm.test/bounces"}}'
    mailgun_bench.server.script["verdict"] = Answer(200, page)
    with pytest.raises(RecordsUnavailable, match="another host"):
        assert [one async for one in mailgun_bench.adapter.suppressions(mailgun_bench.call)]


@pytest.mark.parametrize(
    ("answer", "wait"),
    [
        (Answer(429, "account-requests-per-sec limit exceeded, try again after 120 seconds"), 120),
        (Answer(429, "slowly", {"Retry-After": "7"}), 7),
        (Answer(401, b"Forbidden"), None),
        (Answer(200, b"<html>"), None),
        (Answer(200, b'{"items": 7}'), None),
        (Answer(503, b""), None),
    ],
)
async def test_records_that_cannot_be_had_say_why_and_how_long_to_wait(
    mailgun_bench: MailgunBench, answer: Answer, wait: int | None
) -> None:
    mailgun_bench.server.script["verdict"] = answer
    now = datetime.now(UTC)
    for reading in (
        mailgun_bench.adapter.suppressions(mailgun_bench.call),
        mailgun_bench.adapter.log(mailgun_bench.call, now - HOUR, now),
    ):
        with pytest.raises(RecordsUnavailable) as said:
            async for _ in reading:
                pass
        assert said.value.retry_after_s == wait


async def test_a_route_that_cannot_be_called_has_no_records(mailgun_bench: MailgunBench) -> None:
    call = msgspec.structs.replace(mailgun_bench.call, secret_ref="file:nothing")
    with pytest.raises(RecordsUnavailable, match="cannot be read"):
        assert [one async for one in mailgun_bench.adapter.suppressions(call)]


async def test_mailguns_log_of_a_domain_is_read_oldest_first_in_pages(mailgun_bench: MailgunBench) -> None:
    now = datetime.now(UTC)
    for n in range(250):
        at = now - HOUR + timedelta(seconds=n)
        mailgun_bench.server.record("delivered", "firm.test", f"r{n}@customer.test", "1@firm.test", {}, at)
        mailgun_bench.server.record("delivered", "other.test", "x@customer.test", "1@other.test", {}, at)
    mailgun_bench.server.record("opened", "firm.test", "r@customer.test", "1@firm.test", {}, now)
    pages = [page async for page in mailgun_bench.adapter.log(mailgun_bench.call, now - 2 * HOUR, now)]
    assert [len(page) for page in pages] == [100, 100, 50]
    entries: list[Any] = [entry for page in pages for entry in page]
    assert [entry["recipient"] for entry in entries] == [f"r{n}@customer.test" for n in range(250)]


async def test_sess_account_list_is_read_to_its_end(ses_bench: Any) -> None:
    ses_bench.server.suppressed = [(f"b{n}@customer.test", "BOUNCE") for n in range(1_500)]
    ses_bench.server.suppressed.append(("c@customer.test", "COMPLAINT"))
    found = [one async for one in ses_bench.adapter.suppressions(ses_bench.call)]
    assert found == [*((f"b{n}@customer.test", "hard_bounce") for n in range(1_500)), ("c@customer.test", "complaint")]


@pytest.mark.parametrize("fault", ["TooManyRequestsException", "AccessDeniedException", "InternalFailure"])
async def test_a_list_that_ses_does_not_give_is_said_to_be_unavailable(ses_bench: Any, fault: str) -> None:
    ses_bench.server.script["request"] = Fault(fault)
    with pytest.raises(RecordsUnavailable):
        assert [one async for one in ses_bench.adapter.suppressions(ses_bench.call)]
