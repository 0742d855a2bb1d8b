"""Which logins fail, and since when: what `mailfleet status` makes of the attempts."""

from datetime import UTC, datetime, timedelta

import psycopg

from ops.commands.sends import failing_logins
from projections.migrate import migrate

AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
REFUSED = ("refused", 535, "auth", "mailbox", None)
NO_SECRET = ("not_sent", None, None, None, "auth: secret file:ben.password cannot be read: No such file")
CUT_IN_LOGIN = ("not_sent", None, None, None, "connect: auth: who knows")
ACCEPTED = ("accepted", 250, None, None, None)
NO_SUCH_USER = ("refused", 550, "hard", "recipient", None)
BLOCKED = ("refused", 554, "block", "route", None)

STORY = {
    "anna": (ACCEPTED, REFUSED, BLOCKED, REFUSED),  # since 1: a refusal at the door says nothing of the login
    "ben": (REFUSED, ACCEPTED, NO_SECRET),  # since 2
    "cleo": (REFUSED, NO_SUCH_USER),  # whoever is told of a recipient is logged in
    "dan": (ACCEPTED, CUT_IN_LOGIN),
}


def test_a_login_fails_since_its_first_refusal_after_it_was_last_good(database: str) -> None:
    migrate(database)
    with psycopg.connect(database) as connection:
        for name, outcomes in STORY.items():
            for n, (outcome, code, kind, fault, what) in enumerate(outcomes):
                connection.execute(
                    "insert into attempts (client, send_id, attempt, mailbox, route, quota_day, rule, not_before, "
                    "not_after, assigned_at, settled_at, outcome, reply_code, reply_text, reply_class, fault, what) "
                    "values ('acme', %s, %s, %s, 'own', '', '', %s, %s, %s, %s, %s, %s, 'said', %s, %s, %s)",
                    (name, n, f"{name}@a.test", AT, AT, AT, AT + timedelta(hours=n), outcome, code, kind, fault, what),
                )
        found = failing_logins(connection)
    assert [(row["mailbox"], row["route"], row["since"], row["latest"], row["times"]) for row in found] == [
        ("anna@a.test", "own", AT + timedelta(hours=1), AT + timedelta(hours=3), 2),
        ("ben@a.test", "own", AT + timedelta(hours=2), AT + timedelta(hours=2), 1),
    ]
    assert [row["what was said"] for row in found] == ["535 said", NO_SECRET[4]]
