"""Who receives a domain's mail: by the list, by the MX of a real name server, and soon when nobody answers."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from adapters.dns import receivers
from adapters.dns.receivers import DOMAINS, KEPT_S, SERVERS, UNKNOWN, KnownReceivers, MxReceivers, by_list, by_servers
from schemas.ids import DomainName
from tests.knot import Knot

ZONES = {
    "firm.test": ["@ MX 10 firm-test.mail.protection.outlook.com.", "@ MX 5 aspmx.l.google.com."],
    "hosted.test": ["@ MX 10 mx1.mail.hoster.example."],
    "bare.test": ["@ A 192.0.2.1"],
    "none.test": ["@ MX 0 ."],
    "broken.test": None,
    "week.test": ["@ MX 10 mx1.mail.hoster.example."],
    "late.test": None,
}


def names(*domains: str) -> set[DomainName]:
    return {DomainName(d) for d in domains}


@pytest.fixture(scope="module")
def knot(needs: Callable[[str, str], None], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Knot]:
    """A name server with companies that receive in different ways."""
    needs("knotd", "knot")
    made = Knot(Path(tmp_path_factory.mktemp("knot")), ZONES)
    made.start()
    yield made
    made.stop()


@pytest.mark.parametrize(
    ("domain", "receiver"),
    [
        ("gmail.com", "gmail"),
        ("hotmail.co.uk", "microsoft"),
        ("aol.com", "yahoo"),
        ("me.com", "apple"),
        ("web.de", "united-internet"),
        ("firm.test", ""),
    ],
)
def test_a_known_domain_is_on_the_list(domain: str, receiver: str) -> None:
    assert by_list(domain) == receiver


@pytest.mark.parametrize(
    ("hosts", "receiver"),
    [
        (["aspmx.l.google.com"], "google-workspace"),
        (["firm-test.mail.protection.outlook.com"], "microsoft-365"),
        (["outlook-com.olc.protection.outlook.com"], "microsoft"),
        (["mx1.mail.hoster.example"], "hoster.example"),
        (["mx.hoster.co.uk"], "hoster.co.uk"),
        (["notgoogle.com"], "notgoogle.com"),
        ([""], "firm.test"),
        ([], "firm.test"),
    ],
)
def test_servers_are_known_by_the_end_of_their_names_and_a_company_at_google_is_no_gmail(
    hosts: list[str], receiver: str
) -> None:
    assert by_servers(hosts, "firm.test") == receiver


def test_names_of_providers_have_no_dot_and_domains_are_lower_case() -> None:
    assert all("." not in name for name in {*DOMAINS.values(), *SERVERS.values(), UNKNOWN})
    assert all(end == end.lower().strip(".") for end in [*DOMAINS, *SERVERS])


async def test_the_mx_says_who_receives_and_what_is_not_answered_is_unknown(knot: Knot) -> None:
    asked = names("firm.test", "hosted.test", "bare.test", "none.test", "broken.test", "gmail.com")
    found = await MxReceivers([knot.resolver()]).of(asked)
    assert found == {
        "firm.test": "google-workspace",
        "hosted.test": "hoster.example",
        "bare.test": "bare.test",
        "none.test": "none.test",
        "broken.test": UNKNOWN,
        "gmail.com": "gmail",
    }


async def test_without_look_ups_only_the_list_is_known() -> None:
    assert await KnownReceivers().of(names("gmail.com", "firm.test")) == {"gmail.com": "gmail", "firm.test": ""}


async def test_a_resolver_that_hangs_costs_a_second_once_and_is_left_alone_for_a_while(knot: Knot) -> None:
    asked = MxReceivers([knot.resolver()])
    knot.hang()
    try:
        before = time.monotonic()
        found = await asked.of(names(*(f"a{n}.test" for n in range(200)), "gmail.com"))
        once = time.monotonic() - before
        assert 0.8 < once < 2.5
        assert {found[DomainName("a7.test")], found[DomainName("gmail.com")]} == {UNKNOWN, "gmail"}
        assert (await asked.of(names("firm.test"))) == {"firm.test": UNKNOWN}
        assert time.monotonic() - before < once + 0.5
    finally:
        knot.go_on()


async def test_an_answer_is_kept_for_a_week_and_a_missing_one_for_ten_minutes(knot: Knot) -> None:
    now = [0.0]
    asked = MxReceivers([knot.resolver()], lambda: now[0])
    known = {"week.test": "hoster.example", "late.test": UNKNOWN}
    assert await asked.of(names(*known)) == known
    knot.change("week.test", ["@ MX 10 mx.other.example."])
    knot.change("late.test", ["@ MX 10 mx.back.example."])
    now[0] = 601.0
    assert await asked.of(names(*known)) == {"week.test": "hoster.example", "late.test": "back.example"}
    now[0] = KEPT_S + 1
    assert (await asked.of(names("week.test"))) == {"week.test": "other.example"}


async def test_the_memory_is_bounded(knot: Knot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receivers, "REMEMBERED", 3)
    asked = MxReceivers([knot.resolver()])
    await asked.of(names(*(f"a{n}.bare.test" for n in range(20))))
    assert len(asked._known) == 3
