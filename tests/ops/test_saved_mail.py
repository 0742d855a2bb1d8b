"""Saved mail: found in files, mbox files and folders, named by its content, given to the mailbox that it came to."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from ops.saved_mail import counted, mailboxes_of, read_saved
from schemas.fleet import BounceMailbox, ClientDeclared, MailboxDeclared, Pace
from schemas.ids import ClientId, MailboxAddress, RouteId
from schemas.reports import ReportSeen
from streams.agents.mail_reports import Found
from tests.agents.test_mail_reports import ANNA, FOREIGN, KEY, RITA, TOKEN, dsn, reply

ACME = ClientId("acme")
KNOWN = {ANNA: ACME}
BOUNCES = Path(__file__).parent.parent / "data" / "bounces" / "messages"


@pytest.fixture
def pile(tmp_path: Path) -> Path:
    """A folder with a bounce, a reply beside a forged bounce in an mbox, and a message to somebody else."""
    (tmp_path / "a.eml").write_bytes(b"Date: Mon, 2 Mar 2026 10:00:00 +0100\n" + dsn(message_id=f"<{TOKEN}@firm.test>"))
    line = b"From MAILER-DAEMON Mon Mar  2 09:00:00 2026\n"
    forged = dsn(to=f"b+{FOREIGN}@bounces.firm.test")
    (tmp_path / "old.mbox").write_bytes(line + reply(f"<{TOKEN}@firm.test>") + b"\n" + line + forged)
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "b.eml").write_bytes(dsn(to="somebody@else.test"))
    return tmp_path


def named(pile: Path, found: list[tuple[str, Found]]) -> dict[str, Found]:
    """Return the last report of each file."""
    return {str(Path(name).relative_to(pile)): report for name, report in found}


def test_each_message_is_read_and_told_where_it_came_to(pile: Path) -> None:
    seen: list[None] = []
    found = read_saved([pile], KNOWN, KEY, read_one=lambda: seen.append(None))
    assert counted(found) == {"bounce": 2, "forged": 1, "reply": 1}
    assert len(seen) == 4
    by_name = named(pile, found)
    fact = by_name["a.eml"].fact
    assert isinstance(fact, ReportSeen)
    assert (fact.token, fact.mailbox, fact.client, fact.at) == (TOKEN, ANNA, ACME, datetime(2026, 3, 2, 9, tzinfo=UTC))
    stranger = by_name["inside/b.eml"].fact
    assert (stranger.mailbox, stranger.at.year) == ("", 1970), "an address that is nobody's of ours is not told"


def test_reading_it_again_from_another_place_gives_the_same_facts(pile: Path, tmp_path: Path) -> None:
    first = read_saved([pile], KNOWN, KEY)
    (pile / "a.eml").rename(tmp_path / "z.eml")
    again = read_saved([pile], KNOWN, KEY)
    assert {report.fact for _, report in first} == {report.fact for _, report in again}
    assert len({report.fact.event_id for _, report in first}) == 4


def test_a_mailbox_that_is_named_counts_for_all(pile: Path) -> None:
    found = read_saved([pile / "inside"], KNOWN, KEY, ANNA)
    assert [(report.fact.mailbox, getattr(report.fact, "recipient", "")) for _, report in found] == [(ANNA, RITA)]


def test_mail_may_lie_in_sending_and_in_bounce_mailboxes() -> None:
    box = BounceMailbox(MailboxAddress("b@b.firm.test"), "mx1", "file:x")
    facts = [
        ClientDeclared(ACME, (), "x", Pace(), bounce_mailbox=box),
        MailboxDeclared(ACME, ANNA, (RouteId("own"),), 40),
    ]
    assert mailboxes_of(facts) == {ANNA: ACME, MailboxAddress("b@b.firm.test"): ACME}


def test_a_pile_of_real_bounces_is_read_whole() -> None:
    found = read_saved([BOUNCES], {}, KEY)
    assert len({name for name, _ in found}) == len(list(BOUNCES.glob("*.eml")))
    assert counted(found)["bounce"] > 250
