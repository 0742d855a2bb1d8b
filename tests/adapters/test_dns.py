"""Checks of a domain against a real name server: what is wrong is named, what is not answered is never "broken"."""

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from adapters.dns import rdap
from adapters.dns.blocklists import BLOCKLISTS, Blocklists, meaning
from adapters.dns.dkim import check_dkim, key_record, new_key, own_public_key
from adapters.dns.dmarc import check_alignment, check_dmarc, walk
from adapters.dns.hosts import check_mx, check_ptr, check_return_path, is_generic
from adapters.dns.look import Eyes, EyesWrong, look_at_domain, look_at_route, open_eyes
from adapters.dns.needs import Needs, needs_of
from adapters.dns.rdap import check_expiry, judged
from adapters.dns.resolver import Resolver, Unanswered, or_unchecked, resolvers
from adapters.dns.spf import check_spf
from adapters.secrets import Secrets
from schemas.dns import Finding, Verdict
from schemas.fleet import RouteDeclared
from schemas.ids import ClientId, DomainName, RouteId
from tests.knot import QUICK_S, Knot, txt

NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
KEY = new_key().decode()
RECORD = key_record(own_public_key(KEY, "k"))
SHORT_RECORD = key_record(generate_private_key(65537, 1024).public_key())
ED_RECORD = key_record(Ed25519PrivateKey.generate().public_key())
TINY = (
    "MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAMV5GUtjssgQZWu1veC7MyKQW60JamvArNrc6XopauiPtc7M0YqELcFnycHOwKMyJklFsa61utEt"
    "foV3dyElJ0sCAwEAAQ=="
)

SPF: dict[str, tuple[list[str], Verdict, str]] = {
    "plain": (["v=spf1 include:mail.spf.test ~all"], "good", r"\(2 look-ups\)"),
    "deep": (["v=spf1 include:outer.spf.test -all"], "good", r"\(3 look-ups\)"),
    "redirect": (["v=spf1 redirect=plain.spf.test"], "good", r"\(3 look-ups\)"),
    "ten": ([f"v=spf1 include:mail.spf.test {'a:one.spf.test ' * 8}~all"], "good", r"\(10 look-ups\)"),
    "long": ([f"v=spf1 include:mail.spf.test {' '.join(f'ip4:10.{n}.0.0/16' for n in range(100))} ~all"], "good", ""),
    "others": (["google-site-verification=abc", "v=spf1 include:mail.spf.test ~all", "v=spf10"], "good", ""),
    "shout": (["V=SPF1 Include:MAIL.spf.test ~ALL"], "good", ""),
    "none": (["google-site-verification=abc"], "missing", "no SPF record"),
    "two": (["v=spf1 include:mail.spf.test ~all", "v=spf1 -all"], "broken", "2 SPF records"),
    "eleven": ([f"v=spf1 include:mail.spf.test {'a:one.spf.test ' * 9}~all"], "broken", "11 DNS look-ups"),
    "nested": ([f"v=spf1 include:many.spf.test {'a:one.spf.test ' * 5}~all"], "broken", "12 DNS look-ups"),
    "void": (
        ["v=spf1 include:mail.spf.test a:x.spf.test a:y.spf.test mx:z.spf.test ~all"],
        "broken",
        "3 look-ups find",
    ),
    "two-void": (["v=spf1 include:mail.spf.test a:x.spf.test a:y.spf.test ~all"], "good", ""),
    "circle": (["v=spf1 include:circle.spf.test ~all"], "broken", "is a circle"),
    "empty-include": (["v=spf1 include:one.spf.test ~all"], "broken", "has no SPF records"),
    "typo": (["v=spf1 includ:mail.spf.test ~all"], "broken", "no term of SPF"),
    "bad-ip": (["v=spf1 include:mail.spf.test ip4:300.1.1.1 ~all"], "broken", "no network"),
    "bad-kind": (["v=spf1 include:mail.spf.test ip6:192.0.2.1 ~all"], "broken", "the other kind"),
    "bad-cidr": (["v=spf1 include:mail.spf.test a:one.spf.test/99 ~all"], "broken", "99"),
    "open": (["v=spf1 include:mail.spf.test +all"], "broken", "everybody may send"),
    "bare-all": (["v=spf1 include:mail.spf.test all"], "broken", "everybody may send"),
    "another": (["v=spf1 include:other.spf.test ~all"], "broken", "does not allow route own"),
    "behind-all": (["v=spf1 ~all include:mail.spf.test"], "broken", "does not allow"),
    "macro": (["v=spf1 include:mail.spf.test exists:%{i}._spf.test ~all"], "good", r"\(3 look-ups\)"),
    "unserved": (["v=spf1 include:mail.spf.test include:elsewhere.example ~all"], "could_not_be_checked", "REFUSED"),
    "lame": (["v=spf1 include:mail.lame.test ~all"], "could_not_be_checked", "SERVFAIL"),
    "long-label": ([f"v=spf1 include:mail.spf.test include:{'a' * 70}.test ~all"], "broken", "not a domain name"),
    "wild": ([], "missing", "no SPF record"),
}
"""Name below spf.test → (its TXT, verdict, a piece of the evidence)."""

DKIM: dict[str, tuple[list[str], Verdict, str]] = {
    "good": ([RECORD], "good", "rsa, 2048 bits; matches file:dkim.pem"),
    "spaces": ([RECORD.replace("; ", " ;  ")], "good", "matches"),
    "other": ([key_record(own_public_key(new_key().decode(), "k"))], "broken", "not the key that signs"),
    "none": ([], "missing", "no TXT record"),
    "two": ([RECORD, SHORT_RECORD], "broken", "2 TXT records"),
    "revoked": (["v=DKIM1; k=rsa; p="], "broken", "revoked"),
    "tiny": ([f"v=DKIM1; k=rsa; p={TINY}"], "broken", "512 bits"),
    "cut": ([RECORD[:200]], "broken", "is no rsa key"),
    "sha1": ([f"{RECORD}; h=sha1"], "broken", "does not allow sha256"),
    "web": ([f"{RECORD}; s=tlsrpt"], "broken", "does not allow mail"),
    "dsa": ([RECORD.replace("k=rsa", "k=dsa")], "broken", "neither rsa nor ed25519"),
    "v2": ([RECORD.replace("DKIM1", "DKIM2")], "broken", "not DKIM1"),
    "words": (["hello world"], "broken", "no tag=value"),
    "spf": (["v=spf1 -all"], "broken", "not DKIM1"),
}
"""Selector at dkim.test, whose private key we have → (its TXT, verdict, a piece of the evidence)."""

DMARC: dict[str, tuple[list[str], Verdict, str]] = {
    "reject": (["v=DMARC1; p=reject; rua=mailto:d@reject.dmarc.test"], "good", "policy reject"),
    "old": (["v=DMARC1; p=quarantine; pct=50; ri=3600"], "good", "policy quarantine"),
    "none": ([], "missing", "neither"),
    "two": (["v=DMARC1; p=none", "v=DMARC1; p=reject"], "broken", "2 DMARC records"),
    "no-policy": (["v=DMARC1; aspf=s"], "broken", "p= is none of"),
    "only-rua": (["v=DMARC1; rua=mailto:d@only-rua.dmarc.test"], "good", "policy none"),
    "typo": (["v=DMARC1; p=rejected"], "broken", "p=rejected"),
    "odd": (["v=DMARC1; p=none; adkim=strict"], "broken", "neither r nor s"),
    "spf": (["v=spf1 -all"], "missing", "neither"),
}
"""Name below dmarc.test → (TXT of its _dmarc, verdict, a piece of the evidence)."""


def spf_zone() -> list[str]:
    """Return spf.test."""
    lines = [line for name, (texts, _, _) in SPF.items() for line in txt(name, *texts)]
    lines += txt("mail", "v=spf1 ip4:192.0.2.0/28 include:deeper.spf.test -all")
    lines += txt("deeper", "v=spf1 ip4:198.51.100.0/24 ~all")
    lines += txt("other", "v=spf1 ip4:203.0.113.0/24 ~all")
    lines += txt("outer", "v=spf1 include:mail.spf.test ~all")
    lines += txt("many", f"v=spf1 include:mail.spf.test {'mx:mxs.spf.test ' * 4}~all")
    lines += ["one A 192.0.2.1", "mxs MX 10 one"]
    return [
        *lines,
        '*.wild TXT "v=spf1 include:mail.spf.test ~all"',
        'wild TXT "a wildcard does not cover its own name"',
    ]


def dkim_zone() -> list[str]:
    """Return dkim.test."""
    lines = [line for name, (texts, _, _) in DKIM.items() for line in txt(f"{name}._domainkey", *texts)]
    lines += txt("short._domainkey", f"{SHORT_RECORD}; t=y:s") + txt("ed._domainkey", ED_RECORD)
    return [
        *lines,
        "pointed._domainkey CNAME good._domainkey",
        "round._domainkey CNAME round2",
        "round2 CNAME round._domainkey",
    ]


def dmarc_zone() -> list[str]:
    """Return dmarc.test, which itself has no record."""
    lines = [line for name, (texts, _, _) in DMARC.items() for line in txt(f"_dmarc.{name}", *texts)]
    lines += txt("_dmarc.org", "v=DMARC1; p=reject; sp=quarantine")
    lines += txt("_dmarc.strict", "v=DMARC1; p=reject; aspf=s; adkim=s")
    lines += txt("_dmarc.suffix", "v=DMARC1; p=none; psd=y")
    lines += txt("_dmarc.foreign", "v=DMARC1; p=none; rua=mailto:d@reports.test!10m")
    lines += txt("_dmarc.agreed", "v=DMARC1; p=none; rua=mailto:a@agreed.dmarc.test, mailto:d@agrees.test")
    return lines


HOSTS = [
    "@ MX 10 mx1",
    "@ MX 20 mx2",
    "mx1 A 192.0.2.1",
    "mx2 AAAA 2001:db8::2",
    "null MX 0 .",
    "bare A 192.0.2.9",
    "dead MX 10 gone",
    "half MX 10 gone",
    "half MX 20 mx1",
    "unsure MX 10 mx.lame.test.",
    "bounces MX 10 feedback-smtp.eu-west-1.amazonses.com.",
    "wrong MX 10 mx1",
    "out1 A 192.0.2.25",
    "out2 A 192.0.2.26",
    "host-192-0-2-28 A 192.0.2.28",
]
REVERSE = ["25 PTR out1.hosts.test.", "26 PTR out1.hosts.test.", "28 PTR host-192-0-2-28.hosts.test."]
ZEN = ["2.0.0.127 A 127.0.0.2", "25.2.0.192 A 127.0.0.4", "25.2.0.192 A 127.0.0.10", "26.2.0.192 A 127.255.255.254"]
ZONES: dict[str, list[str] | None] = {
    "spf.test": spf_zone(),
    "dkim.test": dkim_zone(),
    "dmarc.test": dmarc_zone(),
    "test": ["nothing A 192.0.2.200"],
    "hosts.test": HOSTS,
    "lame.test": None,
    "agrees.test": txt("agreed.dmarc.test._report._dmarc", "v=DMARC1;"),
    "2.0.192.in-addr.arpa": REVERSE,
    "zen.spamhaus.org": ZEN,
    "key7.zen.dq.spamhaus.net": ["2.0.0.127 A 127.0.0.2", "25.2.0.192 A 127.0.0.2"],
    "dbl.spamhaus.org": ["dbltest.com A 127.0.1.2", "bad.test A 127.0.1.4", "asked.test A 127.0.1.255"],
    "bl.spamcop.net": [f"{n}.0.0.127 A 127.0.0.2" for n in (1, 2)],  # lists everything
    "psbl.surriel.com": ["nothing A 127.0.0.2"],  # emptied: not even its test point
    "multi.surbl.org": ["test.surbl.org A 127.0.0.254", "bad.test A 127.0.0.80", "refused.test A 127.0.0.1"],
    "multi.uribl.com": ["* A 127.0.0.1"],  # refuses us
}


@pytest.fixture(scope="module")
def knot(needs: Callable[[str, str], None], run_folder: Path) -> Iterator[Knot]:
    """A name server with all zones of this module."""
    needs("knotd", "knot")
    made = Knot(run_folder / "knot", ZONES)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def secrets(tmp_path: Path) -> Secrets:
    """A store with our DKIM key."""
    path = tmp_path / "dkim.pem"
    path.touch(mode=0o600)
    path.write_text(KEY)
    return Secrets(tmp_path)


def wants(domain: str, **changes: Any) -> Needs:
    """Return what an own server's route needs."""
    usual = Needs(DomainName(domain), RouteId("own"), "smtp", return_path=domain, dkim_domain=domain)
    return msgspec.structs.replace(usual, **changes)


# ── SPF ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", SPF)
async def test_an_spf_record_is_judged_as_receivers_judge_it(knot: Knot, name: str) -> None:
    _, verdict, says = SPF[name]
    domain = f"{name}.spf.test"
    found = await or_unchecked("spf", check_spf(knot.resolver(), wants(domain, spf=("include:mail.spf.test",))))
    assert found.verdict == verdict, found
    assert re.search(says, found.evidence), found
    assert (domain in found.fix) == (verdict in ("broken", "missing"))


@pytest.mark.parametrize(
    ("name", "ip", "verdict"),
    [
        ("plain", "192.0.2.7", "good"),
        ("plain", "198.51.100.7", "good"),
        ("plain", "203.0.113.7", "broken"),
        ("plain", "2001:db8::1", "broken"),
        ("redirect", "192.0.2.7", "good"),
        ("ten", "192.0.2.1", "good"),
        ("behind-all", "192.0.2.7", "broken"),
        ("macro", "203.0.113.7", "could_not_be_checked"),
        ("none", "192.0.2.7", "missing"),
    ],
)
async def test_an_own_servers_address_must_pass(knot: Knot, name: str, ip: str, verdict: Verdict) -> None:
    found = await check_spf(knot.resolver(), wants(f"{name}.spf.test", ips=(ip,)))
    assert found.verdict == verdict, found
    assert (ip in found.fix) == (verdict in ("broken", "missing"))


async def test_the_providers_own_return_path_has_the_providers_spf() -> None:
    """No server is asked: this resolver reaches none."""
    found = await check_spf(Resolver("127.0.0.1", 9), wants("plain.spf.test", provider="ses", return_path=""))
    assert found.verdict == "good"
    assert "MAIL FROM" in found.fix


# ── DKIM ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("selector", DKIM)
async def test_a_dkim_record_must_hold_our_key(knot: Knot, secrets: Secrets, selector: str) -> None:
    _, verdict, says = DKIM[selector]
    found = await check_dkim(knot.resolver(), wants("dkim.test", selector=selector, key_ref="file:dkim.pem"), secrets)
    assert found.verdict == verdict, found
    assert says in found.evidence
    assert bool(found.fix) == (verdict != "good")


@pytest.mark.parametrize(
    ("selector", "says", "fix"),
    [
        (
            "short",
            "rsa, 1024 bits",
            "t=y says that it is a test: take it out; the RSA key has 1024 bits: make one of 2048",
        ),
        ("ed", "ed25519", ""),
        ("pointed", "rsa, 2048 bits", ""),
    ],
)
async def test_a_providers_key_needs_no_private_half(
    knot: Knot, secrets: Secrets, selector: str, says: str, fix: str
) -> None:
    found = await check_dkim(knot.resolver(), wants("dkim.test", selector=selector), secrets)
    assert (found.verdict, found.fix) == ("good", fix)
    assert says in found.evidence


async def test_a_key_that_is_not_on_this_machine_is_not_compared(knot: Knot, secrets: Secrets) -> None:
    found = await check_dkim(knot.resolver(), wants("dkim.test", selector="good", key_ref="file:none.pem"), secrets)
    assert found.verdict == "good"
    assert "not compared with our key: secret file:none.pem cannot be read" in found.evidence


async def test_an_unknown_selector_and_a_circle_of_names_could_not_be_checked(knot: Knot, secrets: Secrets) -> None:
    for selector in ("", "round"):
        found = await or_unchecked("dkim", check_dkim(knot.resolver(), wants("dkim.test", selector=selector), secrets))
        assert found.verdict == "could_not_be_checked", found


# ── DMARC and alignment ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", DMARC)
async def test_a_dmarc_record_is_judged_as_receivers_judge_it(knot: Knot, name: str) -> None:
    _, verdict, says = DMARC[name]
    found = await check_dmarc(knot.resolver(), wants(f"{name}.dmarc.test"))
    assert found.verdict == verdict, found
    assert says in found.evidence


async def test_a_sub_domain_inherits_the_policy_for_sub_domains(knot: Knot) -> None:
    found = await check_dmarc(knot.resolver(), wants("a.b.org.dmarc.test"))
    assert found.evidence == "_dmarc.org.dmarc.test: policy quarantine, inherited by a.b.org.dmarc.test"


async def test_a_wildcard_that_answers_everything_is_no_dmarc_record(knot: Knot) -> None:
    assert (await check_dmarc(knot.resolver(), wants("x.wild.spf.test"))).verdict == "missing"


@pytest.mark.parametrize(
    ("name", "advice"), [("foreign", "reports.test does not agree"), ("agreed", ""), ("reject", "")]
)
async def test_a_foreign_receiver_of_reports_must_agree(knot: Knot, name: str, advice: str) -> None:
    zone = "test" if name == "foreign" else ""
    found = await check_dmarc(knot.resolver(), wants(f"{name}.dmarc.test"))
    assert found.verdict == "good"
    assert advice in found.fix, zone
    assert bool(advice) == bool(found.fix)


@pytest.mark.parametrize(
    ("domain", "changes", "verdict", "says"),
    [
        ("org.dmarc.test", {"return_path": "b.org.dmarc.test"}, "good", "aligned by SPF"),
        ("org.dmarc.test", {"return_path": "b.hosts.test", "selector": "s"}, "good", "aligned by DKIM"),
        ("none.dmarc.test", {"selector": "s"}, "good", "aligned by DKIM and SPF"),
        ("strict.dmarc.test", {"return_path": "b.strict.dmarc.test", "selector": "s"}, "good", "aligned by DKIM"),
        (
            "strict.dmarc.test",
            {"return_path": "b.strict.dmarc.test", "selector": "s", "dkim_domain": "b.strict.dmarc.test"},
            "broken",
            "neither is aligned",
        ),
        ("org.dmarc.test", {"return_path": "b.hosts.test"}, "could_not_be_checked", "DKIM is not known"),
        ("a.suffix.dmarc.test", {"return_path": "b.suffix.dmarc.test", "selector": "s"}, "good", "aligned by DKIM"),
        (
            "a.suffix.dmarc.test",
            {"return_path": "b.suffix.dmarc.test", "selector": "s", "dkim_domain": "c.suffix.dmarc.test"},
            "broken",
            "neither is aligned",
        ),
        ("two.dmarc.test", {"return_path": "b.two.dmarc.test"}, "broken", "2 DMARC records"),
        ("lame.test", {"selector": "s"}, "good", "aligned by DKIM"),
        ("lame.test", {"return_path": "b.lame.test"}, "could_not_be_checked", "SERVFAIL"),
    ],
)
async def test_spf_or_dkim_must_speak_for_the_domain_in_from(
    knot: Knot, domain: str, changes: dict[str, str], verdict: Verdict, says: str
) -> None:
    found = await or_unchecked("alignment", check_alignment(knot.resolver(), wants(domain, **changes)))
    assert found.verdict == verdict, found
    assert says in found.evidence


def test_the_walk_up_asks_at_most_eight_names() -> None:
    assert walk("a.b.test") == ["a.b.test", "b.test", "test"]
    long = walk(".".join("abcdefghij") + ".mail.example.com")
    assert len(long) == 8
    assert long[1:3] == ["g.h.i.j.mail.example.com", "h.i.j.mail.example.com"]


# ── MX, return path, PTR ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("domain", "verdict", "says"),
    [
        ("hosts.test", "good", "MX mx1.hosts.test, mx2.hosts.test"),
        ("half.hosts.test", "good", "MX gone.hosts.test, mx1.hosts.test"),
        ("null.hosts.test", "broken", "null MX"),
        ("bare.hosts.test", "missing", "its address 192.0.2.9 is no promise"),
        ("nowhere.hosts.test", "missing", "has no MX"),
        ("dead.hosts.test", "broken", "none of them has an address"),
        ("unsure.hosts.test", "could_not_be_checked", "SERVFAIL"),
        ("lame.test", "could_not_be_checked", "SERVFAIL"),
    ],
)
async def test_replies_must_find_a_server(knot: Knot, domain: str, verdict: Verdict, says: str) -> None:
    found = await or_unchecked("mx", check_mx(knot.resolver(), domain))
    assert found.verdict == verdict, found
    assert says in found.evidence


@pytest.mark.parametrize(
    ("name", "verdict"), [("bounces", "could_not_be_checked"), ("wrong", "broken"), ("none", "missing")]
)
async def test_a_provider_that_takes_the_bounces_must_be_the_mx(knot: Knot, name: str, verdict: Verdict) -> None:
    """Amazon's name is served by nobody here, so the good one cannot be looked up to its end."""
    needs = wants("hosts.test", return_path=f"{name}.hosts.test", return_mx="feedback-smtp.eu-west-1.amazonses.com")
    found = await or_unchecked("return_path", check_return_path(knot.resolver(), needs))
    assert found.verdict == verdict, found
    assert (needs.return_mx in found.fix) == (verdict != "could_not_be_checked")


@pytest.mark.parametrize(
    ("ip", "helo", "verdict", "says"),
    [
        ("192.0.2.25", "out1.hosts.test", "good", ""),
        ("192.0.2.25", "", "good", ""),
        ("192.0.2.25", "mail.hosts.test", "good", "EHLO says mail.hosts.test"),
        ("192.0.2.28", "", "good", "looks like a dial-up"),
        ("192.0.2.26", "", "broken", "set its PTR"),
        ("192.0.2.29", "out9.hosts.test", "missing", "set its PTR to out9.hosts.test"),
        ("203.0.113.1", "", "could_not_be_checked", ""),
    ],
)
async def test_an_address_has_a_name_that_has_the_address(
    knot: Knot, ip: str, helo: str, verdict: Verdict, says: str
) -> None:
    found = await or_unchecked("ptr", check_ptr(knot.resolver(), wants("hosts.test", ips=(ip,), helo=helo)))
    assert found.verdict == verdict, found
    assert says in found.fix
    assert bool(says) == bool(found.fix)


@pytest.mark.parametrize(
    ("name", "generic"),
    [
        ("host-192-0-2-28.isp.test", True),
        ("28.2.0.192.isp.test", True),
        ("c000021c.isp.test", True),
        ("mx28.a.test", False),
    ],
)
def test_a_name_made_of_the_addresss_numbers_is_generic(name: str, generic: bool) -> None:
    assert is_generic(name, "192.0.2.28") is generic


# ── blocklists ───────────────────────────────────────────────────────────────────────────────────


def lists(*names: str, **more: Any) -> Blocklists:
    """Return these lists, nothing asked yet."""
    return Blocklists([BLOCKLISTS[name] for name in names], **more)


@pytest.mark.parametrize(
    ("name", "asked", "verdict", "says"),
    [
        ("zen", "192.0.2.25", "broken", "192.0.2.25 is on zen (XBL, PBL)"),
        ("zen", "192.0.2.99", "good", "not on zen"),
        ("zen", "192.0.2.26", "could_not_be_checked", "the resolver is a public one"),
        ("spamcop", "192.0.2.99", "could_not_be_checked", "lists what it must not list"),
        ("psbl", "192.0.2.99", "could_not_be_checked", "does not list its own test point"),
        ("barracuda", "192.0.2.99", "could_not_be_checked", "REFUSED"),
        ("dbl", "bad.test", "broken", "bad.test is on dbl (phishing)"),
        ("dbl", "good.test", "good", "not on dbl"),
        ("dbl", "asked.test", "could_not_be_checked", "a domain list was asked for an address"),
        ("surbl", "bad.test", "broken", "malware, abuse"),
        ("surbl", "refused.test", "could_not_be_checked", "the query is refused"),
        ("uribl", "bad.test", "could_not_be_checked", "the query is refused"),
    ],
)
async def test_only_a_documented_code_is_a_listing(
    knot: Knot, name: str, asked: str, verdict: Verdict, says: str
) -> None:
    check = "ip_blocklist" if BLOCKLISTS[name].of == "ip" else "blocklist"
    found = await lists(name).check(knot.resolver(), check, [asked])  # type: ignore[arg-type]  # one of the two
    assert found.verdict == verdict, found
    assert says in found.evidence


@pytest.mark.parametrize("answer", ["203.0.113.80", "127.0.0.1", "127.0.0.99", "127.0.1.2", "127.255.255.252"])
def test_an_answer_that_nobody_documents_is_no_listing(answer: str) -> None:
    with pytest.raises(Unanswered):
        meaning(BLOCKLISTS["zen"], ["127.0.0.2", answer])


async def test_one_list_that_cannot_be_asked_hides_no_other(knot: Knot) -> None:
    found = await lists("spamcop", "zen").check(knot.resolver(), "ip_blocklist", ["192.0.2.25", "192.0.2.99"])
    assert found.verdict == "broken"
    found = await lists("spamcop", "zen").check(knot.resolver(), "ip_blocklist", ["192.0.2.99"])
    assert found.verdict == "good"
    assert "not on zen; not checked: spamcop lists what it must not" in found.evidence


async def test_a_public_resolver_is_never_used_for_a_list() -> None:
    """It would not get there: nothing answers on that port. So a query would say "no answer"."""
    for resolver in (Resolver("8.8.8.8", 9), Resolver("2606:4700:4700::1111", 9)):
        found = await lists("zen").check(resolver, "ip_blocklist", ["192.0.2.1"])
        assert found.verdict == "could_not_be_checked"
        assert "is not asked through the public resolver" in found.evidence


async def test_a_spamhaus_key_is_asked_with_and_never_told(knot: Knot) -> None:
    found = await lists("zen", dqs_key="key7").check(knot.resolver(), "ip_blocklist", ["192.0.2.25"])
    assert "192.0.2.25 is on zen (SBL)" in found.evidence
    found = await lists("zen", dqs_key="key8").check(knot.resolver(), "ip_blocklist", ["192.0.2.25"])
    assert found.verdict == "could_not_be_checked"
    assert "<key>.zen.dq" in found.evidence
    assert "key8" not in found.evidence


async def test_a_list_is_asked_once_within_its_hour(knot: Knot) -> None:
    clock = [0.0]
    asked = lists("zen", now=lambda: clock[0])
    knot.change("zen.spamhaus.org", ZEN)
    assert (await asked.check(knot.resolver(), "ip_blocklist", ["192.0.2.25"])).verdict == "broken"
    knot.change("zen.spamhaus.org", ZEN[:1])
    try:
        assert (await asked.check(knot.resolver(), "ip_blocklist", ["192.0.2.25"])).verdict == "broken"
        clock[0] = 3_590.0
        assert (await asked.check(knot.resolver(), "ip_blocklist", ["192.0.2.25"])).verdict == "good"
    finally:
        knot.change("zen.spamhaus.org", ZEN)


def test_lists_need_a_resolver_that_was_named_or_a_key(secrets: Secrets) -> None:
    assert open_eyes((), ("zen", "psbl"), "off", "", secrets).blocklists.lists == []
    assert len(open_eyes(("10.0.0.53",), ("zen", "psbl"), "off", "", secrets).blocklists.lists) == 2
    with_key = open_eyes((), ("zen", "psbl"), "off", "file:dkim.pem", secrets)
    assert [listing.name for listing in with_key.blocklists.lists] == ["zen"]


@pytest.mark.parametrize(
    ("given", "names", "key", "says"),
    [
        (("10.0.0.300",), (), "", "DNS_RESOLVERS: .*10.0.0.300"),
        (("10.0.0.53:dns",), (), "", "DNS_RESOLVERS"),
        ((), ("zen", "sorbs"), "", "DNS_BLOCKLISTS names sorbs; known are zen"),
        ((), ("zen",), "file:none", "DNS_SPAMHAUS_KEY: secret file:none cannot be read"),
    ],
)
def test_a_wrong_setting_is_named(
    secrets: Secrets, given: tuple[str, ...], names: tuple[str, ...], key: str, says: str
) -> None:
    with pytest.raises(EyesWrong, match=says):
        open_eyes(given, names, "off", key, secrets)


# ── no answer is not "broken" ────────────────────────────────────────────────────────────────────


BELOW = ("spf", "dkim", "dmarc", "alignment", "return_path", "ptr", "ip_blocklist")


@pytest.fixture
def alone(needs: Callable[[str, str], None], tmp_path: Path) -> Iterator[Knot]:
    """A server of one test's own, with one good domain."""
    needs("knotd", "knot")
    good = [*txt("@", "v=spf1 ip4:192.0.2.25 -all"), *txt("_dmarc", "v=DMARC1; p=reject; rua=mailto:d@firm.test")]
    good += [*txt("s1._domainkey", RECORD), "@ MX 10 out1", "out1 A 192.0.2.25"]
    reverse = ["25 PTR out1.firm.test."]
    made = Knot(tmp_path / "knot", {"firm.test": good, "2.0.192.in-addr.arpa": reverse, "zen.spamhaus.org": ZEN[:1]})
    made.start()
    yield made
    made.stop()


def verdicts(found: list[Finding]) -> set[Verdict]:
    """Return the verdicts that occur; for alignment nobody is asked where all domains are one."""
    return {f.verdict for f in found if f.check != "alignment"}


async def everything(eyes: Eyes, resolver: Resolver) -> list[Finding]:
    """Return all findings on firm.test."""
    needs = wants("firm.test", ips=("192.0.2.25",), helo="out1.firm.test", selector="s1", key_ref="file:dkim.pem")
    own = await look_at_domain(eyes, resolver, "firm.test", NOW, expiry=False)
    return own + await look_at_route(eyes, resolver, needs)


async def test_a_good_domain_stays_good_or_unknown_through_everything_a_server_does(
    alone: Knot, secrets: Secrets
) -> None:
    clock = [0.0]
    eyes = Eyes((alone.resolver(),), secrets, lists("zen", now=lambda: clock[0]), "off")
    good = alone.zones["firm.test"]
    assert good is not None
    first = await everything(eyes, alone.resolver())
    assert verdicts(first) == {"good"}, first
    assert {f.check for f in first} == {*BELOW, "mx"}
    alone.hang()
    clock[0] += 4_000
    assert verdicts(await everything(eyes, alone.resolver(QUICK_S))) == {"could_not_be_checked"}
    alone.go_on()
    clock[0] += 4_000
    assert verdicts(await everything(eyes, alone.resolver())) == {"good"}
    alone.stop()  # the port is closed
    clock[0] += 4_000
    assert verdicts(await everything(eyes, alone.resolver(QUICK_S))) == {"could_not_be_checked"}
    alone.zones = dict.fromkeys(alone.zones)
    alone.start()  # it serves the zones and has none of them: SERVFAIL
    clock[0] += 4_000
    assert verdicts(await everything(eyes, alone.resolver(QUICK_S))) == {"could_not_be_checked"}


async def test_a_zone_that_flaps_is_seen_as_it_is_each_time(alone: Knot, secrets: Secrets) -> None:
    eyes = Eyes((alone.resolver(),), secrets, rdap_url="off")
    good = alone.zones["firm.test"]
    assert good is not None
    for _ in range(2):
        alone.change("firm.test", [line for line in good if "spf1" not in line and "DKIM1" not in line])
        found = {f.check: f.verdict for f in await everything(eyes, alone.resolver())}
        assert (found["spf"], found["dkim"], found["dmarc"], found["mx"]) == ("missing", "missing", "good", "good")
        alone.change("firm.test", good)
        assert verdicts(await everything(eyes, alone.resolver())) == {"good"}


async def test_a_slow_answer_counts_and_a_second_try_is_made(alone: Knot) -> None:
    alone.hang()
    timer = threading.Timer(0.4, alone.go_on)
    timer.start()
    assert (await alone.resolver(4.0).ask("firm.test", "MX")) == ["10 out1.firm.test."]
    timer.join()


def test_the_systems_resolvers_are_the_default() -> None:
    assert resolvers(["10.0.0.53", "127.0.0.1:5353", "[::1]:53", "2001:db8::53", "[2001:db8::1]"]) == [
        Resolver("10.0.0.53"),
        Resolver("127.0.0.1", 5353),
        Resolver("::1"),
        Resolver("2001:db8::53"),
        Resolver("2001:db8::1"),
    ]
    assert str(Resolver("::1", 5353)) == "[::1]:5353"
    assert all(r.port == 53 for r in resolvers([]))


# ── what a route needs ───────────────────────────────────────────────────────────────────────────


def way(provider: str, host: str = "", **options: str) -> RouteDeclared:
    """Return a route."""
    return RouteDeclared(ClientId("acme"), RouteId("own"), provider, host, 587, options=options)


@pytest.mark.parametrize(
    ("route", "wanted"),
    [
        (way("zoho", "smtppro.zoho.eu"), {"spf": ("include:zohomail.eu", "include:zoho.eu", "include:one.zoho.eu")}),
        (
            way("zoho", "smtp.zoho.com.au"),
            {"spf": ("include:zohomail.com.au", "include:zoho.com.au", "include:one.zoho.com.au")},
        ),
        (way("mailgun", domain="mg.a.test"), {"return_path": "mg.a.test", "dkim_domain": "mg.a.test"}),
        (way("ses", region="eu-west-1"), {"return_path": "", "spf": ("include:amazonses.com",)}),
        (
            way("ses", region="eu-west-1", dns_return_path="m.{domain}"),
            {"return_path": "m.a.test", "return_mx": "feedback-smtp.eu-west-1.amazonses.com"},
        ),
        (way("smtp", bounce_domain="b.{domain}"), {"return_path": "b.a.test"}),
        (way("smtp", dns_ips="192.0.2.1 nonsense 2001:db8::1"), {"ips": ("192.0.2.1", "2001:db8::1"), "key_ref": ""}),
        (way("smtp", dns_ips="192.0.2.1", dns_dkim_selector="s1"), {"key_ref": "file:dkim.a.test.s1.pem"}),
        (way("smtp", dkim_selector="s1", dkim_key_ref="file:k"), {"selector": "s1", "key_ref": "file:k"}),
    ],
)
def test_what_a_route_needs_comes_from_provider_and_options(route: RouteDeclared, wanted: dict[str, Any]) -> None:
    needs = needs_of(DomainName("a.test"), route)
    assert {name: getattr(needs, name) for name in wanted} == wanted


# ── expiry ───────────────────────────────────────────────────────────────────────────────────────


def domain(
    ends: str | None = "2027-01-01T00:00:00Z", began: str = "2020-01-01T00:00:00Z", *status: str
) -> dict[str, Any]:
    """Return a registry's answer."""
    events = [{"eventAction": "registration", "eventDate": began}]
    events += [{"eventAction": "expiration", "eventDate": ends}] if ends else []
    return {"objectClassName": "domain", "status": ["active", *status], "events": events}


@pytest.mark.parametrize(
    ("found", "verdict", "fix"),
    [
        (domain(), "good", ""),
        (domain("2026-03-20T00:00:00Z"), "good", "renew firm.test: 17 days are left"),
        (domain("2026-03-01"), "broken", "renew firm.test today"),
        (domain("2027-01-01T00:00:00Z", "2026-02-20T00:00:00Z"), "good", "10 days old"),
        (domain("2027-01-01T00:00:00Z", "2020-01-01T00:00:00Z", "client hold"), "broken", "ask the registrar"),
        (domain("2027-01-01T00:00:00Z", "2020-01-01T00:00:00Z", "Pending Delete"), "broken", "ask the registrar"),
    ],
)
def test_what_a_registry_says_is_judged(found: dict[str, Any], verdict: Verdict, fix: str) -> None:
    finding = judged("firm.test", found, NOW)
    assert finding.verdict == verdict
    assert fix in finding.fix


@pytest.mark.parametrize("found", [domain(None), domain("soon"), {"objectClassName": "domain"}, {"events": "x"}])
def test_a_registry_that_names_no_end_says_nothing(found: dict[str, Any]) -> None:
    with pytest.raises(Unanswered, match="does not say when it ends"):
        judged("firm.test", found, NOW)


@pytest.fixture
def registry() -> Iterator[tuple[str, dict[str, tuple[int, bytes]]]]:
    """(base URL, {path: (status, body)}) of a registry that knows what the test puts in."""
    known: dict[str, tuple[int, bytes]] = {}

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = known.get(self.path, (404, b""))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if status == 302:
                self.send_header("Location", body.decode())
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Stay quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/domain/", known
    server.shutdown()
    server.server_close()
    thread.join()


async def test_a_registry_is_asked_by_rdap_up_to_the_registered_domain(
    registry: tuple[str, dict[str, tuple[int, bytes]]],
) -> None:
    url, known = registry
    known["/domain/firm.test"] = (302, b"/registry/firm.test")
    known["/registry/firm.test"] = (200, json.dumps(domain()).encode())
    assert (await check_expiry("mail.firm.test", url, NOW)).evidence == "firm.test ends 2027-01-01"


@pytest.mark.parametrize("answer", [(429, b""), (500, b""), (200, b"<html>"), (200, b"[]"), (404, b"")])
async def test_a_registry_without_an_answer_is_not_broken(
    registry: tuple[str, dict[str, tuple[int, bytes]]], answer: tuple[int, bytes]
) -> None:
    url, known = registry
    known["/domain/firm.test"] = answer
    found = await or_unchecked("expiry", check_expiry("firm.test", url, NOW))
    assert found.verdict == "could_not_be_checked", found


async def test_a_registry_that_never_answers_is_not_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rdap, "ANSWER_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/domain/"
        found = await or_unchecked("expiry", check_expiry("firm.test", url, NOW))
    assert (found.verdict, found.evidence) == ("could_not_be_checked", "firm.test: RDAP gives no answer: ReadTimeout")


async def test_a_registry_that_is_not_there_is_not_broken() -> None:
    found = await or_unchecked(
        "expiry", check_expiry("firm.test", "http://127.0.0.1:9/domain/", NOW + timedelta(days=1))
    )
    assert found.verdict == "could_not_be_checked"
