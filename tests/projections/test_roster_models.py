"""What people read of rests, reserve and the day's capacity."""

from datetime import timedelta

import psycopg

from ops.stories import senders_named, story
from schemas.health import CapacityPlanned, Evidence, ReserveChanged, RestBegan
from schemas.ids import ClientId
from tests.projections.facts import AT, apply, one, rows
from tests.projections.test_health_models import ACME, ANNA, FLEET

WHY = Evidence("weekly rest", "p", "2 days", 940, 0, 840)


def test_rests_and_moves_are_told_in_a_mailboxes_story(models: str) -> None:
    joins = ReserveChanged(ACME, ANNA, "in_use", Evidence("capacity below demand", "p", said="its week: 9 delivered"))
    apply(models, *FLEET, RestBegan(ACME, "mailbox", ANNA, AT + timedelta(days=2), WHY), joins)
    with psycopg.connect(models) as connection:
        told = [line["what"] for line in story(connection, senders_named(connection, ANNA))]
    assert "joins from the reserve: capacity below demand. its week: 9 delivered" in told[0]
    assert "rests until" in told[1]
    assert one(models, "rests", "numerator", "threshold") == (940, 840)


def test_a_day_of_capacity_is_one_row_its_latest_count(models: str) -> None:
    client = ClientId("acme")
    why = Evidence("the reserve lasts", "p")
    apply(models, CapacityPlanned(client, "2026-03-02", 900, 800, 12, 3, "enough", why))
    later = CapacityPlanned(client, "2026-03-02", 700, 800, 0, 3, "exhausted", why)
    apply(models, later, CapacityPlanned(client, "2026-03-03", 900, 800, 12, 3, "enough", why), first_seq=2)
    assert rows(models, "select day, capacity_mails, reserve_state from capacity_days order by day") == [
        ("2026-03-02", 700, "exhausted"),
        ("2026-03-03", 900, "enough"),
    ]
