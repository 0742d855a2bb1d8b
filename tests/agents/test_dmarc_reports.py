"""A report becomes facts of the fleet's own domains: what is ours and what is not, bounded, without an address."""

from datetime import UTC, datetime, timedelta

import orjson
import pytest

from adapters.reports.dmarc import NotAReport, reports_in
from schemas import registry
from schemas.fleet import DomainDeclared, MailboxDeclared, RouteDeclared
from schemas.ids import ClientId, DomainName, MailboxAddress, RouteId
from schemas.registry import Fact
from schemas.reputation import DmarcReported
from streams.agents.dmarc_reports import Domains, domains, facts_in, facts_of
from tests.adapters.dmarc_samples import google, record, signed

ACME, BIRCH = ClientId("acme"), ClientId("birch")
NOW = datetime(2026, 3, 3, 7, 0, tzinfo=UTC)
FAILS = {"dkim": "fail", "spf": "fail"}


def fleet(provider: str = "smtp", **options: str) -> Domains:
    """acme with a domain and a sub-domain over one route, birch with another domain."""
    way = RouteDeclared(ACME, RouteId("own"), provider, "mx.acme.test", 25, options=options)
    facts: list[Fact] = [way]
    for client, name in ((ACME, "acme-mail.com"), (ACME, "eu.acme-mail.com"), (BIRCH, "birch.example")):
        facts.append(DomainDeclared(client, DomainName(name)))
        facts.append(MailboxDeclared(client, MailboxAddress(f"ann@{name}"), (RouteId("own"),), 40))
    return domains(facts)


def told(*records: str, known: Domains | None = None, domain: str = "acme-mail.com") -> list[DmarcReported]:
    """What a report with these records says."""
    return facts_in(google(*records, domain=domain), known or fleet(), NOW)


def ours(*records: str, known: Domains | None = None) -> list[bool]:
    """Whether the mails of each record are ours."""
    return [told(one, known=known)[0].counts[0].ours for one in records]


def test_an_address_of_an_own_server_is_ours_even_when_all_fails() -> None:
    failing = record("192.0.2.25", **FAILS)
    assert ours(failing) == [False]
    assert ours(failing, known=fleet(dns_ips="192.0.2.25 2001:db8::25")) == [True]
    assert ours(record("2001:DB8:0::25", **FAILS), known=fleet(dns_ips="192.0.2.25 2001:db8::25")) == [True]


def test_what_speaks_in_the_domains_name_is_ours() -> None:
    failed = signed("acme-mail.com", "fail")
    assert ours(
        record(auth=signed("acme-mail.com"), **FAILS),  # a strict domain, a forwarder
        record(auth="<spf><domain>bounces.acme-mail.com</domain><result>pass</result></spf>", **FAILS),
        record(spf="fail"),  # aligned, says the receiver, without saying by what
        record(auth=signed("evil.example"), **FAILS),
        record(auth=signed("notacme-mail.com"), **FAILS),
        record(auth=failed, **FAILS),
    ) == [True, True, True, False, False, False]


@pytest.mark.parametrize(
    ("provider", "name", "expected"),
    [("ses", "amazonses.com", True), ("mailgun", "mailgun.org", True), ("smtp", "amazonses.com", False)],
)
def test_what_a_provider_of_ours_signs_in_its_name_is_ours(provider: str, name: str, expected: bool) -> None:
    assert ours(record(auth=signed(name), **FAILS), known=fleet(provider)) == [expected]


def test_each_record_is_told_of_the_nearest_domain() -> None:
    facts = told(
        record(mails=1),
        record(mails=2, header_from="eu.acme-mail.com"),
        record(mails=4, header_from="x.eu.acme-mail.com"),
        record(mails=8, header_from="shop.acme-mail.com"),
        record(mails=16, header_from=""),
    )
    assert {(f.client, f.domain): sum(c.mails for c in f.counts) for f in facts} == {
        (ACME, "acme-mail.com"): 25,
        (ACME, "eu.acme-mail.com"): 6,
    }


def test_a_report_about_nobody_of_the_fleet_and_of_days_to_come_says_why() -> None:
    with pytest.raises(NotAReport, match="no domain that the fleet file declares"):
        told(record(header_from="other.example"), domain="other.example")
    with pytest.raises(NotAReport, match="days to come"):
        facts_of(reports_in(google(record()))[0], fleet(), NOW - timedelta(days=3))


def test_the_largest_sources_are_named_and_the_rest_told_together() -> None:
    many = [record(f"10.1.{n >> 8}.{n & 255}", n + 1, **FAILS) for n in range(3_000)]
    (fact,) = told(*many, record("192.0.2.25", 5_000))
    assert sum(count.mails for count in fact.counts) == sum(range(1, 3_001)) + 5_000
    assert fact.counts[0].source == "192.0.2.25"
    named = [count.source for count in fact.counts if count.source]
    assert (len(named), len(fact.counts)) == (100, 101)
    assert named[1] == "10.1.11.183"
    assert len(orjson.dumps(registry.data_of(fact))) < 20_000


def test_records_of_one_source_that_were_judged_alike_are_one_count() -> None:
    (fact,) = told(record(mails=3), record(mails=4), record(mails=5, **FAILS))
    assert [count.mails for count in fact.counts] == [7, 5]
