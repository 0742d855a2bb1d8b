"""Aggregate reports are read in every shape that receivers write, and no file can do more than waste a little time."""

import contextlib
import gzip
import io
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.reports.dmarc import MAX_RECORDS, MAX_XML, NotAReport, looks_like_report, reports_in
from tests.adapters.dmarc_samples import FAILED, google, mail, of_2026, outlook, packed, record, signed, yahoo, zipped

BOUNCES = Path(__file__).parent.parent / "data" / "bounces" / "messages"
SHAPES: list[Callable[..., bytes]] = [google, outlook, yahoo, of_2026]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("wrapped", [bytes, packed, zipped, lambda xml: zipped(xml, stored=True)])
def test_each_receivers_report_is_read_bare_and_packed(
    shape: Callable[..., bytes], wrapped: Callable[[bytes], bytes]
) -> None:
    for raw in (wrapped(shape(record(), FAILED)), mail(wrapped(shape(record(), FAILED)), text="see the file")):
        (report,) = reports_in(raw)
        assert report.domain == "acme-mail.com"
        assert report.end == datetime(2026, 3, 2, 23, 59, 59, tzinfo=UTC)
        good, bad = report.records
        assert (good.source, good.mails, good.spf, good.dkim, good.passed) == (
            "192.0.2.25",
            12,
            True,
            True,
            ("acme-mail.com",),
        )
        assert (bad.disposition, bad.spf, bad.dkim, bad.passed) == ("quarantine", False, False, ())


def test_who_reports_and_under_which_number_is_told() -> None:
    told = [reports_in(shape(record()))[0] for shape in SHAPES]
    assert [(r.org, r.report_id, r.policy) for r in told] == [
        ("google.com", "12830491846273561920", "none"),
        ("Outlook.com", "4bcb6a57a1f84a8eb4ab90e3d2f21d3c", "quarantine"),
        ("Yahoo", "1772512345.678901", "reject"),
        ("Sample Reporter", "3v98abbp8ya9n3va8yr8oa3ya", "quarantine"),
    ]


def test_the_message_that_is_the_archive_itself_is_read() -> None:
    raw = mail(zipped(google(record())))
    assert looks_like_report(raw)
    assert len(reports_in(raw)) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"subject": "[DMARC] Report Domain: acme-mail.com Submitter: x Report-ID: <1>", "name": "report.xml.gz"},
        {"subject": "=?utf-8?q?Report_Domain=3A_acme-mail=2Ecom_Submitter=3A_x?=", "name": "x.bin"},
        {"subject": "DMARC aggregate", "name": "protection.outlook.com!acme-mail.com!1772409600!1772495999.xml.gz"},
        {"subject": "", "name": "x.example!acme-mail.com!1772409600!1772495999!a7.xml"},
    ],
)
def test_a_message_is_known_by_its_subject_or_its_files_name(changes: dict[str, str]) -> None:
    raw = mail(packed(google(record())), kind=("application", "gzip"), text="report", **changes)
    assert looks_like_report(raw)
    assert len(reports_in(raw)) == 1


@pytest.mark.parametrize("path", sorted(BOUNCES.glob("*.eml")), ids=lambda path: path.stem)
def test_no_real_bounce_is_taken_for_a_report(path: Path) -> None:
    assert not looks_like_report(path.read_bytes())


def test_a_bounce_that_returns_a_report_is_a_bounce_and_an_answer_to_one_a_letter() -> None:
    raw = mail(packed(google(record())), text="x").replace(
        b"multipart/mixed;", b"multipart/report; report-type=delivery-status;", 1
    )
    assert b"multipart/report" in raw
    assert not looks_like_report(raw)
    answer = b"From: ann@firm.example\r\nSubject: Re: Report domain: acme-mail.com\r\n\r\nWhat is this?\r\n"
    assert not looks_like_report(answer)


def test_what_a_record_lacks_is_filled_in_or_counted() -> None:
    odd = [
        record(mails=""),
        record(mails="-3"),
        record(mails="9" * 30),
        record(source="no address"),
        record(disposition="sampled_out"),
        "<record></record>",
        "<record><row><source_ip>2001:DB8::7</source_ip><count>2</count></row></record>",
        record(auth=signed("acme-mail.com") + signed("amazonses.com") + signed("evil.example", "fail")),
    ]
    (report,) = reports_in(google(*odd))
    assert report.skipped == 4
    assert [(r.source, r.disposition, r.spf) for r in report.records] == [
        ("", "none", True),
        ("192.0.2.25", "other", True),
        ("2001:db8::7", "none", False),
        ("192.0.2.25", "none", True),
    ]
    assert report.records[-1].passed == ("acme-mail.com", "amazonses.com")


@pytest.mark.parametrize(
    ("old", "new", "org", "number"),
    [
        (b"<org_name>google.com</org_name>", b"", "google.com", "12830491846273561920"),
        (b"<org_name>google.com", b"<org_name>Firm &amp; Co\n ann@firm.example ", "Firm & Co <address>", None),
        (b"<begin>1772409600", b"<begin>1772409600000", "google.com", None),
        (b"<p>none</p>", b"", "google.com", None),
        (b'encoding="UTF-8" ', b'encoding="ISO-8859-1"', "google.com", None),
        (b"<?xml", b"\xef\xbb\xbf  <?xml", "google.com", None),
        (b"</feedback>", b"</feedback>\0\0 some server's footer", "google.com", None),
    ],
)
def test_receivers_sloppiness_is_borne(old: bytes, new: bytes, org: str, number: str | None) -> None:
    (report,) = reports_in(google(record()).replace(old, new, 1))
    assert report.org == org
    assert number in (None, report.report_id)


def test_a_number_that_holds_an_address_still_names_one_report() -> None:
    first, second = (reports_in(google(record(), report_id=f"&lt;{n}@firm.example&gt;"))[0] for n in (1, 2))
    assert first.report_id != second.report_id
    assert "@" not in first.report_id + second.report_id


BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE feedback [<!ENTITY a "aaaaaaaaaa">'
    + b"".join(b'<!ENTITY %c "%b">' % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(9))
    + b"]><feedback><report_metadata><org_name>&j;</org_name></report_metadata></feedback>"
)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "no file"),
        (b"Subject: hello\r\n\r\nhello", "no file"),
        (b"<html><body>hello</body></html>", "no DMARC report"),
        (google(record())[:-40], "ends too early"),
        (packed(google(record()))[:-60], "ends too early"),
        (zipped(google(record()))[:300], "ends too early"),
        (b"\x1f\x8b" + b"\xff" * 50, "damaged"),
        *((google().replace(b"UTF-8", name), "broken") for name in (b"rot13", b"shift_jis", b"nothing")),
        (google(record()).replace(b"<report_id>12830491846273561920</report_id>", b""), "who reports"),
        (google(record(), domain="not a domain"), "about which domain"),
        (google(record()).replace(b"<end>1772495999", b"<end>1"), "of which time"),
        (google(record()).replace(b"<end>1772495999", b"<end>1972495999"), "of which time"),
        (BOMB, "document type"),
        (b'<!DOCTYPE feedback SYSTEM "file:///etc/hostname"><feedback/>', "document type"),
        (b"<feedback>" * 100_000, "deeper"),
        (google(*["<record><row><count>1</count></row></record>"] * (MAX_RECORDS + 1)), "more than 50000 records"),
    ],
)
def test_what_is_no_report_says_why(raw: bytes, why: str) -> None:
    with pytest.raises(NotAReport, match=why):
        reports_in(raw)


def test_bombs_cost_neither_time_nor_memory() -> None:
    full = b"<feedback><x>" + b" " * (40 * 1024 * 1024) + b"</x></feedback>"
    folded = io.BytesIO()
    with zipfile.ZipFile(folded, "w", zipfile.ZIP_DEFLATED) as archive:
        for n in range(30):
            archive.writestr(f"{n}.xml", full[: 8 * 1024 * 1024])
    large = f"more than {MAX_XML >> 20} MB"
    bombs = {zipped(full): large, gzip.compress(full): large, mail(gzip.compress(full), text="x"): large}
    for bomb, why in {**bombs, folded.getvalue(): "ends too early"}.items():
        tracemalloc.start()
        began = time.process_time()
        with pytest.raises(NotAReport, match=why):
            reports_in(bomb)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most < 8 * 1024 * 1024
        assert time.process_time() - began < 10


def test_a_large_report_is_read_whole() -> None:
    (report,) = reports_in(packed(google(*(record(f"10.0.{n >> 8}.{n & 255}", n) for n in range(20_000)))))
    assert len(report.records) == 20_000
    assert sum(r.mails for r in report.records) == sum(range(20_000))


def test_a_second_file_that_cannot_be_read_does_not_spoil_the_first() -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("folder/", b"")
        archive.writestr("folder/report.xml", google(record()))
        archive.writestr("readme.txt", b"hello")
    assert len(reports_in(made.getvalue())) == 1


def test_an_encrypted_archive_is_named() -> None:
    raw = bytearray(zipped(google(record())))
    raw[6] |= 1
    with pytest.raises(NotAReport, match="encrypted"):
        reports_in(bytes(raw))


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(
    st.sampled_from(
        [google(record(), FAILED), packed(yahoo(record())), zipped(outlook(FAILED)), mail(packed(google()))]
    ),
    st.lists(st.tuples(st.integers(0, 5_000), st.binary(max_size=6)), max_size=4),
    st.integers(0, 5_000),
)
def test_damage_ends_in_a_report_or_in_a_reason(raw: bytes, damage: list[tuple[int, bytes]], cut: int) -> None:
    for at, octets in damage:
        raw = raw[: at % len(raw)] + octets + raw[at % len(raw) + len(octets) :]
    raw = raw[: len(raw) - cut % 50]
    looks_like_report(raw)
    with contextlib.suppress(NotAReport):
        for report in reports_in(raw):
            assert report.begin <= report.end
            assert "@" not in report.org + report.report_id + report.domain
