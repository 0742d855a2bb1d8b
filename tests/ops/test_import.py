"""An existing fleet is taken over: passwords go to the store, the rest beside the fleet file; wrong lines are named."""

import stat
from pathlib import Path

import pytest

from ops.fleet_file import FleetFileWrong, read_fleet
from ops.fleet_import import import_mailboxes
from ops.fleet_plan import capacity, plan, switched_off
from ops.suppressions import read_suppressions
from schemas.fleet import MailboxDeclared
from schemas.ids import ClientId, DomainName, MailboxAddress
from schemas.policy import PolicyApplied
from schemas.reports import DomainSuppressOrdered, SuppressOrdered
from streams.delivery.identity import recipient_of

KEY = b"k" * 32
FLEET = """
mailbox_files = ["mailboxes.csv"]
[clients.acme]
campaigns = ["all"]
postal_address = "Street 1"
unsubscribe_url = "https://u.acme.test/"
domains = [{ name = "acme.test", daily_quota = 50 }]
[clients.acme.routes.own]
provider = "smtp"
host = "mx.acme.test"
ceiling_24h = 70
"""
EXPORT = """client,mailbox,password,daily_quota,routes,name,warmed_since
acme,Anna@acme.test,pa ss;word,40,own,Anna,2026-01-31
acme,ben@acme.test,other,30,own,,
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a fleet file and an export."""
    (tmp_path / "fleet.toml").write_text(FLEET)
    (tmp_path / "export.csv").write_text(EXPORT)
    return tmp_path


def test_passwords_go_to_the_store_and_nowhere_else(folder: Path) -> None:
    taken = import_mailboxes(folder / "fleet.toml", folder / "export.csv", folder / "secrets")
    assert not (folder / "secrets").exists(), "nothing is written before the plan is confirmed"
    assert not (folder / "mailboxes.csv").exists()
    taken.store()
    kept = {path.name: path.read_text() for path in (folder / "secrets").iterdir()}
    assert kept == {"mailbox-anna-at-acme.test.password": "pa ss;word", "mailbox-ben-at-acme.test.password": "other"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (folder / "secrets").iterdir()} == {0o600}
    assert "other" not in (folder / "mailboxes.csv").read_text()
    boxes = [fact for fact in read_fleet(folder / "fleet.toml") if isinstance(fact, MailboxDeclared)]
    assert boxes == [fact for fact in taken.fleet if isinstance(fact, MailboxDeclared)]
    assert {box.mailbox: box.secret_ref for box in boxes} == {
        "anna@acme.test": "file:mailbox-anna-at-acme.test.password",
        "ben@acme.test": "file:mailbox-ben-at-acme.test.password",
    }
    assert [(fact.mailbox, f"{fact.since:%Y-%m-%d}") for fact in taken.warmed] == [("anna@acme.test", "2026-01-31")]


def test_importing_again_replaces_passwords_that_were_rotated(folder: Path) -> None:
    import_mailboxes(folder / "fleet.toml", folder / "export.csv", folder / "secrets").store()
    (folder / "export.csv").write_text(EXPORT.replace("other", "newer"))
    import_mailboxes(folder / "fleet.toml", folder / "export.csv", folder / "secrets").store()
    assert (folder / "secrets" / "mailbox-ben-at-acme.test.password").read_text() == "newer"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("password,", "", "columns are missing: password"),
        (",other,", ",,", "line 3: password is empty"),
        ("2026-01-31", "last spring", "warmed_since 'last spring' is not a date"),
        (",30,own", ",many,own", "daily_quota 'many' is not a number"),
        (",30,own", ",30,none", "route none is not defined"),
        ("ben@acme.test", "anna@acme.test", "mailbox anna@acme.test is declared 2 times"),
    ],
)
def test_a_wrong_export_is_named_and_nothing_is_written(folder: Path, old: str, new: str, says: str) -> None:
    (folder / "export.csv").write_text(EXPORT.replace(old, new, 1))
    with pytest.raises(FleetFileWrong, match=says.replace("(", r"\(")):
        import_mailboxes(folder / "fleet.toml", folder / "export.csv", folder / "secrets")
    assert sorted(path.name for path in folder.iterdir()) == ["export.csv", "fleet.toml"]


def test_a_fleet_file_that_does_not_name_the_list_says_which_line_to_add(folder: Path) -> None:
    (folder / "fleet.toml").write_text(FLEET.replace('mailbox_files = ["mailboxes.csv"]', ""))
    with pytest.raises(FleetFileWrong, match="add the line"):
        import_mailboxes(folder / "fleet.toml", folder / "export.csv", folder / "secrets")


def test_suppressed_addresses_become_keyed_hashes_for_every_spelling(folder: Path) -> None:
    (folder / "out.csv").write_text("address,client,reason\nMax.Muster+news@gmail.com,,complaint\nx@firm.test,acme,\n")
    gmail, firm = read_suppressions(folder / "out.csv", KEY, "lena")
    assert isinstance(gmail, SuppressOrdered)
    assert gmail.recipient == recipient_of("max.muster+news@gmail.com", KEY)
    assert gmail.recipient_loose == recipient_of("maxmuster@gmail.com", KEY)
    assert gmail.recipient[:16] == gmail.recipient_loose[:16], "one partition for all spellings"
    assert (gmail.client, gmail.reason, gmail.by) == ("", "complaint", "lena")
    assert isinstance(firm, SuppressOrdered)
    assert (firm.client, firm.reason, firm.rule) == ("acme", "manual", "imported: imported")
    (folder / "out.csv").write_text("address\nnobody at all\n")
    with pytest.raises(FleetFileWrong, match="line 2"):
        read_suppressions(folder / "out.csv", KEY, "lena")


def test_a_list_may_name_keyed_hashes_and_domains_and_each_line_just_one(folder: Path) -> None:
    known = recipient_of("x@firm.test", KEY)
    text = f"recipient,domain,client,reason,rule\n{known},,,unsubscribe,one_click\n,@Firm.test,acme,manual,asked\n"
    (folder / "out.csv").write_text(text)
    assert read_suppressions(folder / "out.csv", KEY, "lena") == [
        SuppressOrdered(known, known, ClientId(""), "unsubscribe", "one_click", "lena"),
        DomainSuppressOrdered(DomainName("firm.test"), ClientId("acme"), True, "asked", "lena"),
    ]
    (folder / "out.csv").write_text(f"recipient,domain\n{known},firm.test\nabc,\n")
    with pytest.raises(FleetFileWrong, match=r"line 2: a line names exactly one(.|\n)*line 3: a recipient is a keyed"):
        read_suppressions(folder / "out.csv", KEY, "lena")


def test_the_plan_says_what_changes_and_what_it_does_to_a_days_capacity(folder: Path) -> None:
    taken = import_mailboxes(folder / "fleet.toml", folder / "export.csv", folder / "secrets")
    first = plan([], taken.fleet)
    assert (len(first.added), first.changed, first.gone) == (6, [], [])
    assert first.capacity == {"acme": (0, 50)}, "70 by mailboxes, bounded by the domain's 50"
    assert plan(taken.fleet, taken.fleet).facts == []
    without = [fact for fact in taken.fleet if getattr(fact, "mailbox", "") != "ben@acme.test"]
    second = plan(taken.fleet, without)
    assert [switched_off(f) for f in second.gone if not isinstance(f, PolicyApplied)] == second.facts
    assert second.capacity == {"acme": (50, 40)}
    assert capacity(without) == {"acme": 40}
    assert MailboxAddress("ben@acme.test") in {getattr(fact, "mailbox", None) for fact in second.facts}
