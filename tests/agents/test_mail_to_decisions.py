"""From a raw message to what the delivery stage decides: reader and mind mean the same by a report."""

from datetime import timedelta

import pytest

from adapters.interface import Claim
from adapters.message import identity
from schemas.ids import ClientId, MailboxAddress
from schemas.registry import Fact
from schemas.reports import ReportForged, ReportTaken, ReportUncorrelated, SendReplied, SendUnsubscribed
from schemas.sending import Accepted, RecipientSuppressed, Reply, SendBounced, SendRef
from streams.agents.mail_reports import Place, reports_in
from streams.delivery.identity import token_of
from tests.agents.memory_log import KEY, NOW, Scripted, Worker, until
from tests.agents.test_mail_reports import FOREIGN, dsn, reply

ANNA = MailboxAddress("anna@acme.test")  # whose mail Worker sends
PLACE = Place(f"{ANNA}/INBOX/7/12", ANNA, ClientId("acme"), NOW + timedelta(minutes=5), "INBOX", 7, 12)


async def _accept(claim: Claim) -> Accepted:
    assert await claim()
    return Accepted("1", Reply("memory", "dot", 250))


async def after(worker: Worker, raw: bytes, place: Place = PLACE) -> list[Fact]:
    """Return what is decided on a message."""
    before = len(worker.decided())
    for found in reports_in(raw, place, KEY):
        await worker.input(found.fact)
    return worker.decided()[before:]


async def sent(worker: Worker) -> tuple[SendRef, str]:
    """Return a send that was accepted, and its token."""
    ref = await worker.request()
    await worker.assign(ref)
    await until(lambda: "AttemptAccepted" in [type(fact).__name__ for fact in worker.decided()])
    return ref, token_of(ref.recipient, ref.client, ref.send_id, KEY)


@pytest.fixture
async def worker() -> Worker:
    """A delivery stage whose mail is taken."""
    return Worker(Scripted(_accept))


@pytest.mark.parametrize("by", ["return path", "message id", "recipient and mailbox"])
async def test_a_bounce_bounces_its_send_and_suppresses_the_address(worker: Worker, by: str) -> None:
    ref, token = await sent(worker)
    raw = {
        "return path": dsn(to=f"b+{token}@bounces.acme.test"),
        "message id": dsn(message_id=identity(token, ANNA).message_id),
        "recipient and mailbox": dsn(),
    }[by]
    decided = await after(worker, raw)
    assert [type(fact) for fact in decided if isinstance(fact, SendBounced)] == [SendBounced]
    held = [(fact.recipient, fact.reason) for fact in decided if isinstance(fact, RecipientSuppressed)]
    assert held == [(ref.recipient, "hard_bounce")]
    await worker.hands.close(1)


async def test_the_same_bounce_read_again_after_a_crash_changes_nothing(worker: Worker) -> None:
    _, token = await sent(worker)
    raw = dsn(message_id=identity(token, ANNA).message_id)
    await after(worker, raw)
    assert await after(worker, raw) == []
    elsewhere = Place(f"{ANNA}/INBOX/8/1", ANNA, ClientId("acme"), PLACE.at, "INBOX", 8, 1)
    assert await after(worker, raw, elsewhere) == [], "nor under another UIDVALIDITY"
    await worker.hands.close(1)


async def test_a_forged_bounce_is_counted_and_suppresses_nobody(worker: Worker) -> None:
    await sent(worker)
    assert [type(fact) for fact in await after(worker, dsn(to=f"b+{FOREIGN}@bounces.acme.test"))] == [ReportForged]
    await worker.hands.close(1)


@pytest.mark.parametrize("by", ["message id", "sender and mailbox"])
async def test_a_reply_is_given_to_a_person(worker: Worker, by: str) -> None:
    ref, token = await sent(worker)
    answered = identity(token, ANNA).message_id if by == "message id" else "<0102018f@eu-west-1.amazonses.com>"
    (told,) = [fact for fact in await after(worker, reply(answered)) if isinstance(fact, SendReplied)]
    assert (told.ref, told.letter.mailbox, told.letter.uid, told.letter.message_id) == (
        ref,
        ANNA,
        12,
        "<r@example.test>",
    )
    await worker.hands.close(1)


async def test_a_mail_to_the_unsubscribe_address_unsubscribes(worker: Worker) -> None:
    _, token = await sent(worker)
    decided = await after(worker, reply(To=f"u+{token}@bounces.acme.test"))
    assert [fact.source for fact in decided if isinstance(fact, SendUnsubscribed)] == ["bounce_mail"]
    await worker.hands.close(1)


async def test_a_strangers_bounce_is_kept_for_a_person(worker: Worker) -> None:
    await sent(worker)
    decided = await after(worker, dsn(recipient="ron@example.test"))
    assert [type(fact) for fact in decided] == [ReportUncorrelated, ReportTaken]
    await worker.hands.close(1)
