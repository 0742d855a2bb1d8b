"""A fleet whose mailbox box0 meets a bad list: what it lived through, as the entries of its journal."""

from dataclasses import dataclass, field
from datetime import timedelta

from ops.bench_what_if import entry_of
from schemas.entry import Entry
from schemas.ids import MailboxAddress
from schemas.policy import Health, Rotation
from schemas.registry import Fact
from schemas.reports import SendComplained
from schemas.sending import Carried, SendAssigned, Ticked
from tests.decisions.fleet_story import FleetStory, accept, refuse

SICK, WELL = MailboxAddress("box0@acme.test"), MailboxAddress("box1@acme.test")
LAX = Health(bounce_rate_watch=1, bounce_rate_mailbox=1, bounce_rate_domain=1, complaints_mailbox=100)
"""Under this nobody was ever out."""
A_DAY = 20
"""Mails of each mailbox."""
NO_SUCH_USER = refuse("recipient", "hard", "suppress")


@dataclass
class Recorded(FleetStory):
    """A story that keeps its journal."""

    entries: list[Entry] = field(default_factory=list)

    def sees(self, fact: Fact) -> list[Fact]:
        """Decide and fold, and write the entry."""
        decided = super().sees(fact)
        if decided or not isinstance(fact, Ticked):
            self.entries.append(entry_of(len(self.entries) + 1, self.now, fact, decided))
        return decided


def bad_week(bounced: tuple[int, ...] = (24, 28, 45, 50, 55), complained: tuple[int, ...] = (57,)) -> Recorded:
    """Four days from 2 March 2026, of 20 mails from each of two mailboxes; box0's mails of these numbers are bad.

    Its mails 1-20 leave on 2 March, 21-40 on the 3rd, 41-60 on the 4th, 61-80 on the 5th.
    """
    story = Recorded()
    sent: list[SendAssigned] = []

    def settle(given: SendAssigned) -> Fact:
        if given.sender.mailbox == SICK:
            sent.append(given)
            if len(sent) in bounced:
                return NO_SUCH_USER(given)
        return accept(given)

    story.settle = settle
    story.fleet("acme", 2)
    story.policy("acme", health=LAX, rotation=Rotation(enabled=False))
    for day in range(4):
        for number in range(A_DAY):
            for box in (SICK, WELL):
                story.ask("acme", f"{box[:4]}-{day}-{number}", mailbox=box)
        story.tick(2 * A_DAY + 10)
        story.now += timedelta(hours=1)
        for given in sent[-A_DAY:]:
            if sent.index(given) + 1 in complained:
                carried = Carried(SICK, given.call.route)
                story.sees(SendComplained(given.ref, given.attempt, "webhook", "abuse", carried))
        story.now = story.now.replace(hour=9, minute=0, second=0) + timedelta(days=1)
    return story
