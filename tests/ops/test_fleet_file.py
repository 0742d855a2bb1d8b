"""The fleet file: each kind of wrong line is named with its place and reason, all at once; a right file gives facts."""

from pathlib import Path

import pytest

from ops.fleet_file import FleetFileWrong, read_fleet
from schemas.fleet import BounceMailbox, ClientDeclared, DomainDeclared, MailboxDeclared, RouteDeclared
from schemas.ids import ClientId, MailboxAddress
from schemas.policy import PolicyApplied

RIGHT = """
[pace]
time_zone = "Europe/Berlin"

[accounts.ses]
provider = "smtp"
host = "smtp.ses.test"
max_connections = 10
ceiling_24h = 1000
monthly_usd = 50.0

[clients.acme]
campaigns = ["spring"]
postal_address = "Hauptstr. 1, Berlin"
pace = { gap_seconds = 300 }
domains = ["acme.test", { name = "acme-mail.test", daily_quota = 200, routes = ["own"] }]
[clients.acme.routes]
own = { provider = "smtp", host = "mail.acme.test", ca_file = "ca.pem" }
shared = { account = "ses", share_percent = 60 }
[[clients.acme.mailboxes]]
domain = "acme.test"
names = ["anna", "Ben"]
routes = ["own", "shared"]
daily_quota = 40
secret = "file:acme.password"

[clients.birch]
campaigns = ["all"]
postal_address = "4 Mill Lane, Leeds"
domains = ["birch.test"]
routes = { relay = { account = "ses", share_percent = 40 } }
[[clients.birch.mailboxes]]
domain = "birch.test"
names = ["ops"]
route = "relay"
daily_quota = 10
secret = "env:BIRCH"
"""


def file(folder: Path, *changes: tuple[str, str]) -> Path:
    """Write the right file with changes; each must hit."""
    text = RIGHT
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    path = folder / "fleet.toml"
    path.write_text(text)
    return path


def wrong(folder: Path, *changes: tuple[str, str]) -> list[str]:
    """Return the lines that reading the changed file says."""
    path = file(folder, *changes)
    with pytest.raises(FleetFileWrong) as caught:
        read_fleet(path)
    return [line.removeprefix(f"{path}: ") for line in str(caught.value).splitlines()]


def test_a_right_file_gives_its_declarations(tmp_path: Path) -> None:
    facts = read_fleet(file(tmp_path))
    clients = [f for f in facts if isinstance(f, ClientDeclared)]
    assert [(c.client, c.campaigns, c.pace.time_zone, c.pace.gap_seconds) for c in clients] == [
        ("acme", ("spring",), "Europe/Berlin", 300),
        ("birch", ("all",), "Europe/Berlin", 120),
    ]
    assert [(f.domain, f.daily_quota) for f in facts if isinstance(f, DomainDeclared)] == [
        ("acme.test", 0),
        ("acme-mail.test", 200),
        ("birch.test", 0),
    ]
    boxes = [f for f in facts if isinstance(f, MailboxDeclared)]
    assert [(b.mailbox, b.routes, b.daily_quota, b.secret_ref) for b in boxes] == [
        ("anna@acme.test", ("own", "shared"), 40, "file:acme.password"),
        ("ben@acme.test", ("own", "shared"), 40, "file:acme.password"),
        ("ops@birch.test", ("relay",), 10, "env:BIRCH"),
    ]


def test_a_client_may_widen_its_unsubscribes_to_the_whole_agency(tmp_path: Path) -> None:
    wide = file(tmp_path, ('campaigns = ["spring"]', 'campaigns = ["spring"]\nunsubscribe_from_all = true'))
    clients = {f.client: f.unsubscribe_from_all for f in read_fleet(wide) if isinstance(f, ClientDeclared)}
    assert clients == {"acme": True, "birch": False}


def test_a_shared_account_is_split_by_the_shares(tmp_path: Path) -> None:
    routes = {f"{f.client}/{f.route}": f for f in read_fleet(file(tmp_path)) if isinstance(f, RouteDeclared)}
    acme, birch = routes["acme/shared"], routes["birch/relay"]
    assert (acme.ceiling_24h, acme.max_connections, acme.monthly_usd) == (600, 6, 30.0)
    assert (birch.ceiling_24h, birch.max_connections, birch.monthly_usd) == (400, 4, 20.0)
    assert (acme.account, acme.shared_with, birch.shared_with) == ("ses", ("birch",), ("acme",))
    assert (routes["acme/own"].account, routes["acme/own"].ca_file_ref) == ("", "file:ca.pem")


WRONG = {
    "empty address": (
        ('"Hauptstr. 1, Berlin"', '" "'),
        "client acme: postal_address is empty; the law asks for one in every mail",
    ),
    "no campaign": (('["spring"]', "[]"), "client acme: campaigns is empty; every request would be refused"),
    "time zone": (('"Europe/Berlin"', '"Europe/Atlantis"'), "client acme, pace: "),
    "pace setting": (("gap_seconds = 300", "gap_second = 300"), "client acme, pace: gap_second is not a setting"),
    "pace type": (("gap_seconds = 300", 'gap_seconds = "5 min"'), "client acme, pace: Expected `int`, got `str`"),
    "hours": (
        ("gap_seconds = 300", "hour_from = 17, hour_to = 9"),
        "client acme, pace: hour_from 17 to hour_to 9 is no span within 0-24",
    ),
    "negative gap": (("gap_seconds = 300", "gap_seconds = -1"), "client acme, pace: gaps and waits must not be neg"),
    "gap of ages": (
        ("gap_seconds = 300", "gap_seconds = 1000000000000"),
        "client acme, pace: gaps and waits must be at",
    ),
    "slot": (("gap_seconds = 300", "slot_seconds = 0"), "client acme, pace: slot_seconds and max_attempts must be at"),
    "rate": (
        ('ca_file = "ca.pem" }', 'ca_file = "ca.pem", ceiling_per_second = nan }'),
        "client acme, route own: ceiling_per_second must be",
    ),
    "rest of ages": (
        ('ca_file = "ca.pem" }', 'ca_file = "ca.pem", pause_seconds = 9000000 }'),
        "client acme, route own: pause_seconds must be at",
    ),
    "long slot": (("gap_seconds = 300", "slot_seconds = 901"), "client acme, pace: slot_seconds must be at most 900"),
    "shares": (("share_percent = 60", "share_percent = 61"), "account ses: the clients' shares add up to 101 %, over"),
    "share": (("share_percent = 60", "share_percent = 0"), "client acme, route shared: share_percent must be above 0"),
    "account": (
        ('account = "ses", share_percent = 60', 'account = "aws"'),
        "client acme, route shared: account aws is not defined under [accounts]",
    ),
    "route setting": (
        ('ca_file = "ca.pem"', 'ca = "ca.pem"'),
        "client acme, route own: Object contains unknown field `ca`",
    ),
    "basis": (
        ('ca_file = "ca.pem"', 'accepts_basis = ["hope"]'),
        "client acme, route own: Invalid enum value 'hope'",
    ),
    "provider": (
        ('provider = "smtp", host = "mail.acme.test"', 'provider = "smpt"'),
        "client acme, route own: provider smpt is not known; known are ",
    ),
    "ceiling": (
        ('ca_file = "ca.pem"', "ceiling_24h = -1"),
        "client acme, route own: ceilings and prices must not be negative",
    ),
    "port": (('ca_file = "ca.pem"', "port = 65536"), "client acme, route own: max_connections must be at least 1 and"),
    "clear text": (('ca_file = "ca.pem"', 'tls = "none"'), 'client acme, route own: tls = "none" would send passwords'),
    "domain quota": (
        ("daily_quota = 200", "daily_quota = -2"),
        "client acme, domain acme-mail.test: daily_quota -2 is",
    ),
    "domain route": (
        ('routes = ["own"] }', 'routes = ["sea"] }'),
        "client acme, domain acme-mail.test: route sea is not",
    ),
    "domain name": (('"acme-mail.test"', '"acme mail"'), "client acme, domain acme mail: "),
    "two owners": (
        ('["birch.test"]', '["birch.test", "acme.test"]'),
        "domain acme.test belongs to more than one client",
    ),
    "two owners of one organisation": (
        ('["birch.test"]', '["birch.test", "news.acme-mail.test"]'),
        "acme-mail.test, news.acme-mail.test are one organisation's for receivers, acme-mail.test, but belong to acme,",
    ),
    "domain twice": (
        ('["birch.test"]', '["birch.test", "Birch.test"]'),
        "client birch: domain birch.test is named twice",
    ),
    "mailbox twice": (('"Ben"', '"Anna"'), "mailbox anna@acme.test is declared 2 times"),
    "mailbox name": (('"Ben"', '"b en"'), "client acme, mailbox b en@acme.test: "),
    "mailbox domain": (
        ('domain = "acme.test"', 'domain = "other.test"'),
        "client acme, mailbox anna@other.test: domain other.test is not among the client's domains",
    ),
    "mailbox quota": (
        ("daily_quota = 40", "daily_quota = -1"),
        "client acme, mailbox anna@acme.test: daily_quota -1 is",
    ),
    "mailbox route": (
        ('["own", "shared"]', '["air"]'),
        "client acme, mailbox anna@acme.test: route air is not defined",
    ),
    "no route": (
        ('routes = ["own", "shared"]', "routes = []"),
        "client acme, mailbox anna@acme.test: no route is left that domain acme.test has good records for",
    ),
    "secret": (
        ('"file:acme.password"', '"hunter2"'),
        "client acme, mailbox anna@acme.test: secret is not of the form file:NAME or env:NAME",
    ),
    "mailbox file": (("[pace]", 'mailbox_files = ["gone.csv"]\n[pace]'), "mailbox file gone.csv: "),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_line_is_named_with_its_reason(tmp_path: Path, kind: str) -> None:
    change, says = WRONG[kind]
    assert [line for line in wrong(tmp_path, change) if line.startswith(says)]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("campaigns = ", "campaign = "), "unknown field `campaign` - at `$.clients"),
        (('["all"]', '"all"'), "Expected `array`, got `str` - at `$.clients"),
        (("[clients.acme]", "[clients.acme"), "(at line 12"),
        (("daily_quota = 10", 'daily_quota = "ten"'), "Expected `int`, got `str`"),
    ],
)
def test_a_file_of_another_shape_is_one_sentence_with_the_place(
    tmp_path: Path, change: tuple[str, str], says: str
) -> None:
    (line,) = wrong(tmp_path, change)
    assert says in line


def test_everything_that_is_wrong_is_named_at_once(tmp_path: Path) -> None:
    changes = [change for kind, (change, _) in WRONG.items() if kind in ("empty address", "shares", "mailbox quota")]
    said = wrong(tmp_path, *changes)
    assert len(said) == 4, "two mailboxes have the quota"
    for kind in ("empty address", "shares", "mailbox quota"):
        assert [line for line in said if line.startswith(WRONG[kind][1])]


def test_a_client_must_have_a_name_that_a_request_can_say(tmp_path: Path) -> None:
    path = file(tmp_path)
    path.write_text(RIGHT.replace("clients.birch", 'clients."b/irch"'))
    with pytest.raises(FleetFileWrong, match="client b/irch: a name has 1-128 of"):
        read_fleet(path)


def test_no_secret_is_repeated_in_what_is_wrong(tmp_path: Path) -> None:
    assert "hunter2" not in "\n".join(wrong(tmp_path, WRONG["secret"][0]))


def test_a_file_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(FleetFileWrong, match="No such file"):
        read_fleet(tmp_path / "none.toml")


def test_a_domain_is_the_same_in_upper_case(tmp_path: Path) -> None:
    """The stage looks a mailbox's domain up in lower case: another spelling would have no quota."""
    facts = read_fleet(
        file(tmp_path, ('"acme.test",', '"Acme.test",'), ('domain = "acme.test"', 'domain = "ACME.test"'))
    )
    assert "acme.test" in {f.domain for f in facts if isinstance(f, DomainDeclared)}
    assert "anna@acme.test" in {f.mailbox for f in facts if isinstance(f, MailboxDeclared)}


# ── mailbox files ────────────────────────────────────────────────────────────────────────────────

LISTED = ("[pace]", 'mailbox_files = ["boxes.csv"]\n[pace]')
HEAD = "client,mailbox,daily_quota,routes,secret,name,username\n"


def test_mailboxes_may_stand_in_a_csv_file(tmp_path: Path) -> None:
    (tmp_path / "boxes.csv").write_text(HEAD + "birch,Zoe@birch.test,25,relay,file:zoe,Zoe,\n")
    boxes = [f for f in read_fleet(file(tmp_path, LISTED)) if isinstance(f, MailboxDeclared)]
    zoe = boxes[-1]
    assert (zoe.mailbox, zoe.daily_quota, zoe.name, zoe.username) == ("zoe@birch.test", 25, "Zoe", "Zoe@birch.test")


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("birch,zoe@birch.test,many,relay,file:zoe,,", "boxes.csv line 2: daily_quota 'many' is not a number"),
        ("birch,zoe@birch.test,,relay,file:zoe,,", "boxes.csv line 2: daily_quota '' is not a number"),
        ("cedar,zoe@birch.test,1,relay,file:zoe,,", "boxes.csv line 2: client 'cedar' is not defined"),
        ("birch,zoe,1,relay,file:zoe,,", "boxes.csv line 2: "),
        ("birch,zoe@acme.test,1,relay,file:zoe,,", "boxes.csv line 2: domain acme.test is not among the client's"),
        ("birch,zoe@birch.test,1,own,file:zoe,,", "boxes.csv line 2: route own is not defined"),
        ("birch,OPS@birch.test,1,relay,file:zoe,,", "mailbox ops@birch.test is declared 2 times"),
        ("birch,zoe@birch.test", "boxes.csv line 2: daily_quota"),
    ],
)
def test_a_wrong_row_is_named_by_file_and_line(tmp_path: Path, row: str, says: str) -> None:
    (tmp_path / "boxes.csv").write_text(HEAD + row + "\n")
    assert [line for line in wrong(tmp_path, LISTED) if line.startswith(says)]


def test_missing_columns_are_named(tmp_path: Path) -> None:
    (tmp_path / "boxes.csv").write_text("client,mailbox\nacme,a@acme.test\n")
    assert wrong(tmp_path, LISTED) == ["mailbox file boxes.csv: columns are missing: daily_quota, routes, secret"]


# ── policy ───────────────────────────────────────────────────────────────────────────────────────

POLICY = """
[policy]
version = "spring"
[policy.health]
bounce_rate_mailbox = 0.04
[clients.birch.policy.warm_up]
target_per_day = 20

[accounts.ses]"""


def test_each_client_has_its_policy_with_what_is_its_own_over_what_is_for_all(tmp_path: Path) -> None:
    facts = read_fleet(file(tmp_path, ("\n[accounts.ses]", POLICY)))
    policies = {f.client: f.policy for f in facts if isinstance(f, PolicyApplied)}
    acme, birch = (policies[ClientId(name)] for name in ("acme", "birch"))
    assert (acme.health.bounce_rate_mailbox, birch.health.bounce_rate_mailbox) == (0.04, 0.04)
    assert (acme.warm_up.target_per_day, birch.warm_up.target_per_day) == (40, 20)
    assert acme.version.startswith("spring-")
    assert acme.version != birch.version, "a version names one content"


def test_a_version_follows_from_the_content(tmp_path: Path) -> None:
    versions = [
        next(f.policy.version for f in read_fleet(file(tmp_path, *changes)) if isinstance(f, PolicyApplied))
        for changes in ((), (), (("\n[accounts.ses]", "[policy.lists]\ncanary_sends = 0\n[accounts.ses]"),))
    ]
    assert versions[0] == versions[1] != versions[2]


def test_what_is_wrong_in_a_policy_is_named(tmp_path: Path) -> None:
    text = (
        "\n[policy.health]\nbounce_rate_mailbox = 3.0\nbounce_rte = 1\n[policy.warm_up]\ngrowth = 0.5\n"
        "[policy.rotation]\nrest_days = 5\n[accounts.ses]"
    )
    said = wrong(tmp_path, ("\n[accounts.ses]", text))
    assert [line for line in said if line.startswith("client acme")] == [
        "client acme, policy.health.bounce_rte is not a setting",
        "client acme, policy.health.bounce_rate_mailbox is a share of 1: 0.03 is 3 %",
        "client acme, policy.warm_up: growth must be at least 1.0 and days_at_least at least 1",
        "client acme, policy.rotation.rest_days must be at most 3",
    ]
    said = wrong(tmp_path, ("\n[accounts.ses]", "[policy.warm_up]\nenabled = 1\n[accounts.ses]"))
    assert any("policy: Expected `bool`" in line for line in said)


@pytest.mark.parametrize("rates", ["gmail_spam_rate_watch = 0.0", "gmail_spam_rate_watch = 0.004"])
def test_a_spam_rate_that_would_slow_everybody_down_or_come_too_late_is_named(tmp_path: Path, rates: str) -> None:
    said = wrong(tmp_path, ("\n[accounts.ses]", f"[policy.reputation]\n{rates}\n[accounts.ses]"))
    assert any("gmail_spam_rate_watch must be above 0 and at most gmail_spam_rate_out" in line for line in said)


# ── mail that comes back ─────────────────────────────────────────────────────────────────────────

BOUNCES = (
    'domains = ["acme.test", {',
    'bounce_mailbox = { address = "B@bounces.acme.test", host = "mx1.agency.test", secret = "file:acme.bounces" }\n'
    'unsubscribe_mailto = "u@bounces.acme.test"\ndomains = ["acme.test", {',
)
OWN = 'host = "mail.acme.test", ca_file = "ca.pem"'
VERP = (OWN, f'{OWN}, options = {{ bounce_domain = "bounces.{{domain}}", imap_host = "imap.acme.test" }}')


def test_replies_may_be_passed_on_to_a_person_but_not_round_in_the_fleet(tmp_path: Path) -> None:
    def passed_on_to(address: str) -> tuple[str, str]:
        return BOUNCES[0], f'forward_replies_to = "{address}"\n{BOUNCES[1]}'

    facts = read_fleet(file(tmp_path, passed_on_to("Sales@acme.example"), VERP))
    assert next(f for f in facts if isinstance(f, ClientDeclared)).forward_replies_to == "sales@acme.example"
    box = next(f for f in facts if isinstance(f, MailboxDeclared)).mailbox
    for address in (box.upper(), box.replace("@", "+x@"), "b@bounces.acme.test"):
        assert any("is a mailbox of the fleet" in line for line in wrong(tmp_path, passed_on_to(address), VERP))
    assert any("forward_replies_to" in line for line in wrong(tmp_path, passed_on_to("nobody"), VERP))


def test_a_bounce_mailbox_and_an_address_for_unsubscribes_are_declared(tmp_path: Path) -> None:
    facts = read_fleet(file(tmp_path, BOUNCES, VERP))
    client = next(fact for fact in facts if isinstance(fact, ClientDeclared))
    box = BounceMailbox(MailboxAddress("b@bounces.acme.test"), "mx1.agency.test", "file:acme.bounces")
    assert (client.bounce_mailbox, client.unsubscribe_mailto) == (box, "u@bounces.acme.test")


REPORTS = (
    'domains = ["acme.test", {',
    'dmarc_mailbox = { address = "Dmarc@acme.test", host = "imap.acme.test", username = "anna@acme.test", '
    'folder = "DMARC", secret = "file:acme.anna" }\ndomains = ["acme.test", {',
)


def test_a_mailbox_for_dmarc_reports_is_declared(tmp_path: Path) -> None:
    client = next(fact for fact in read_fleet(file(tmp_path, REPORTS)) if isinstance(fact, ClientDeclared))
    assert client.dmarc_mailbox == BounceMailbox(
        MailboxAddress("dmarc@acme.test"), "imap.acme.test", "file:acme.anna", username="anna@acme.test", folder="DMARC"
    )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ([BOUNCES, REPORTS, ("Dmarc@acme.test", "b@bounces.acme.test")], "is read anyway, in one folder"),
        ([REPORTS, ("file:acme.anna", "a password")], "client acme, dmarc_mailbox: secret is not of the form"),
        ([VERP], "client acme, route own: with bounce_domain the client needs a bounce_mailbox"),
        ([BOUNCES, (OWN, f'{OWN}, options = {{ imap_port = "imaps" }}')], "imap_port must be within 1-65535"),
        ([BOUNCES, (OWN, f'{OWN}, options = {{ imap_after_reading = "delete" }}')], 'imap_after_reading is "seen"'),
        ([BOUNCES, VERP, ('provider = "smtp", host = "mail', 'provider = "zoho", host = "mail')], "for smtp routes"),
        (
            [(f'"smtp", {OWN}', '"ses", options = { region = "eu-west-1", imap_host = "imap.acme.test" }')],
            "the provider's key is named by the option secret_ref",
        ),
        ([BOUNCES, ("u@bounces.acme.test", "u@other.test")], "nobody would read it"),
        ([BOUNCES, ("u@bounces.acme.test", "u+x@bounces.acme.test")], "without a plus sign"),
        ([BOUNCES, ("u@bounces.acme.test", "b@bounces.acme.test")], "a name that is not b"),
        ([BOUNCES, ("B@bounces.acme.test", "bounces.acme.test")], "client acme, bounce_mailbox: an address has a name"),
        ([BOUNCES, ("file:acme.bounces", "a password")], "bounce_mailbox: secret is not of the form"),
    ],
)
def test_what_is_wrong_about_reading_is_named(tmp_path: Path, changes: list[tuple[str, str]], says: str) -> None:
    with pytest.raises(FleetFileWrong) as wrong:
        read_fleet(file(tmp_path, *changes))
    assert says in str(wrong.value)
