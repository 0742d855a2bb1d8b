"""Requests in, honest outcomes out: the whole pipeline on real servers."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

from ops import receiver
from ops.demo_run import OPEN, apply_fleet, demo_requests, ends, figures, is_good
from ops.site import Site, publish_requests
from ops.verify import verify_until_equal
from ops.what_if.findings import fidelity
from ops.what_if.journal import read_into
from ops.what_if.policy_file import OtherPolicy
from ops.what_if.study import Study
from projections.migrate import migrate


def until_all_end(site: Site, database: str, requests: int, seconds: float = 90) -> dict[str, int]:
    """Tend the stack until Postgres knows an end for every request."""
    deadline = time.monotonic() + seconds
    found: dict[str, int] = {}
    while time.monotonic() < deadline:
        site.stack.tend()
        found = ends(database)
        if sum(count for state, count in found.items() if state not in OPEN) >= requests:
            return found
        time.sleep(0.2)
    raise AssertionError(f"not every request came to its end in {seconds} s: {found}")


def test_every_request_has_one_end_and_the_receiver_counts_what_postgres_says(site: Site, database: str) -> None:
    migrate(database)
    apply_fleet(site)
    site.stack.start_all()
    requests = demo_requests(60)
    asyncio.run(publish_requests(site.settings, requests))
    found = until_all_end(site, database, len(requests))
    result = figures(found, receiver.copies(site.received), len(requests))
    assert is_good(result), result
    assert result["failed"] == 1
    assert result["accepted"] == 59
    assert result["most_copies_of_one_send"] == 1
    report = asyncio.run(verify_until_equal(site.settings, 20))
    assert report.equal, report
    assert report.sends == 60
    study = Study(datetime.now(UTC) - timedelta(days=1), None, OtherPolicy({}, {}))
    asyncio.run(read_into(study, site.settings, lambda _done, _total: None))
    again = fidelity(study)
    assert again.mails > 59, "what-if decides over the journal of real processes as they decided"
    assert (again.decisions, again.sends, again.differences) == (1.0, 1.0, [])
