"""Two hands may hold one attempt when its partition moves: once one has claimed, only that one knows the end."""

from datetime import UTC, datetime, timedelta

from ops.journals import Nowhere
from schemas.ids import CampaignId, ClientId, DomainName, MailboxAddress, Recipient, RouteId, SendId, TopicId
from schemas.registry import Fact
from schemas.sending import (
    Accepted,
    AttemptAccepted,
    AttemptNotSent,
    AttemptUnknown,
    Basis,
    ClaimAsked,
    ContentRef,
    NotSent,
    OutcomeReported,
    OutcomeSeen,
    PartitionResumed,
    Reply,
    RouteCall,
    SendAssigned,
    Sender,
    SendRef,
    SendRequested,
    SubmissionStarted,
    Unknown,
)
from streams.delivery.mind import DeliveryMind
from streams.delivery.state import DeliveryState
from streams.log.rows import Rows

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
REF = SendRef(ClientId("acme"), SendId("s1"), Recipient("ab" * 32))
REFUSED_CLAIM = NotSent("claim", "the claim was refused")
TAKEN = Accepted("4XyZ12", Reply("smtp", "dot", 250, "2.0.0", "Ok"))


class Life:
    """One partition of the delivery stage: sees facts, folds what it decides."""

    def __init__(self) -> None:
        self.mind = DeliveryMind()
        self.rows = Rows(Nowhere(), 0, self.mind.row_types)
        self.state: DeliveryState = self.mind.open(self.rows)
        self.seq = 0

    def sees(self, fact: Fact) -> list[Fact]:
        """Return what is decided, after folding it."""
        facts = self.mind.decide(self.state, fact, NOW)
        self.seq += 1
        for decided in facts:
            for key in self.mind.rows_of(decided, NOW):
                self.rows.put(key, self.seq, self.mind.evolve(key, self.rows.get(key), decided, NOW))
        return facts


def assigned() -> Life:
    """An attempt that a hand may start."""
    life = Life()
    content = ContentRef(TopicId("t"), 0, 0, "c" * 64, 100)
    consent = Basis("express_consent", "form", NOW)
    expires = NOW + timedelta(days=1)
    domain = DomainName("b.test")
    life.sees(
        SendRequested(
            REF, CampaignId("all"), content, "d" * 64, REF.recipient, domain, consent, NOW, expires_at=expires
        )
    )
    box = Sender(MailboxAddress("a@acme.test"))
    call = RouteCall(RouteId("own"), "smtp")
    life.sees(SendAssigned(REF, 1, box, call, NOW, NOW + timedelta(minutes=3), "2026-03-02", "free the longest"))
    return life


def test_the_second_hand_gets_no_claim_and_its_refusal_settles_nothing() -> None:
    life = assigned()
    assert life.sees(ClaimAsked(REF, 1, NOW, "frozen")) == [SubmissionStarted(REF, 1, NOW, "frozen")]
    assert life.sees(ClaimAsked(REF, 1, NOW, "other")) == []
    assert life.sees(OutcomeSeen(REF, 1, "other", REFUSED_CLAIM)) == []
    assert isinstance(life.sees(OutcomeReported(REF, 1, "frozen", TAKEN))[0], AttemptAccepted)


def test_a_claim_by_a_hand_that_is_gone_becomes_unknown_and_only_that_hand_can_settle_it() -> None:
    life = assigned()
    life.sees(ClaimAsked(REF, 1, NOW, "frozen"))
    assert isinstance(life.sees(PartitionResumed(("acme/s1/1",)))[0], AttemptUnknown)
    assert life.sees(OutcomeSeen(REF, 1, "other", REFUSED_CLAIM)) == []
    assert life.sees(OutcomeReported(REF, 1, "frozen", Unknown("cut"))) == []
    assert isinstance(life.sees(OutcomeReported(REF, 1, "frozen", NotSent("claim", "late")))[0], AttemptNotSent)


def test_before_any_claim_each_hand_may_say_that_nothing_left() -> None:
    life = assigned()
    assert isinstance(life.sees(OutcomeSeen(REF, 1, "first", NotSent("connect", "refused")))[0], AttemptNotSent)
    assert life.sees(ClaimAsked(REF, 1, NOW, "second")) == []
