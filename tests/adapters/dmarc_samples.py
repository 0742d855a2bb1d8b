"""Aggregate reports in the shapes in which receivers write them: after the schemas of RFC 7489 and RFC 9990."""

import gzip
import io
import zipfile
from email.message import EmailMessage

BEGIN, END = 1772409600, 1772495999  # 2026-03-02, the whole day in UTC
DAY = f"<date_range><begin>{BEGIN}</begin><end>{END}</end></date_range>"


def record(
    source: str = "192.0.2.25",
    mails: object = 12,
    *,
    disposition: str = "none",
    dkim: str = "pass",
    spf: str = "pass",
    header_from: str = "acme-mail.com",
    auth: str = "",
) -> str:
    """One record."""
    auth = auth or f"<spf><domain>acme-mail.com</domain><result>{spf}</result></spf>"
    return (
        f"<record><row><source_ip>{source}</source_ip><count>{mails}</count><policy_evaluated>"
        f"<disposition>{disposition}</disposition><dkim>{dkim}</dkim><spf>{spf}</spf></policy_evaluated></row>"
        f"<identifiers><header_from>{header_from}</header_from></identifiers><auth_results>{auth}</auth_results></record>"
    )


def signed(domain: str, result: str = "pass") -> str:
    """What a receiver says of a signature."""
    return f"<dkim><domain>{domain}</domain><selector>s1</selector><result>{result}</result></dkim>"


FAILED = record("198.51.100.7", 3, disposition="quarantine", dkim="fail", spf="fail")


def google(*records: str, domain: str = "acme-mail.com", report_id: str = "12830491846273561920") -> bytes:
    """As Google writes it: no namespace, an e-mail address, extra contact information."""
    return (
        '<?xml version="1.0" encoding="UTF-8" ?>\n<feedback>\n  <report_metadata>\n'
        "    <org_name>google.com</org_name>\n"
        "    <email>noreply-dmarc-support@google.com</email>\n"
        "    <extra_contact_info>https://support.google.com/a/answer/2466580</extra_contact_info>\n"
        f"    <report_id>{report_id}</report_id>\n    {DAY}\n  </report_metadata>\n  <policy_published>\n"
        f"    <domain>{domain}</domain>\n    <adkim>r</adkim>\n    <aspf>r</aspf>\n    <p>none</p>\n    <sp>none</sp>\n"
        f"    <pct>100</pct>\n    <np>none</np>\n  </policy_published>\n  {''.join(records)}\n</feedback>\n"
    ).encode()


def outlook(*records: str) -> bytes:
    """As Microsoft writes it: a version, foreign namespaces, envelope addresses."""
    inside = "".join(records).replace("<identifiers>", "<identifiers><envelope_to>hotmail.com</envelope_to>")
    return (
        '<?xml version="1.0"?>\r\n<feedback xmlns:xsd="http://www.w3.org/2001/XMLSchema" '
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">\r\n  <version>1.0</version>\r\n  <report_metadata>'
        "<org_name>Outlook.com</org_name><email>dmarcreport@microsoft.com</email>"
        f"<report_id>4bcb6a57a1f84a8eb4ab90e3d2f21d3c</report_id>{DAY}</report_metadata><policy_published>"
        "<domain>acme-mail.com</domain><adkim>r</adkim><aspf>r</aspf><p>quarantine</p><sp>quarantine</sp><pct>100</pct>"
        f"<fo>0</fo></policy_published>{inside}</feedback>"
    ).encode()


def yahoo(*records: str) -> bytes:
    """As Yahoo writes it: line by line, a number with a dot."""
    return (
        '<?xml version="1.0"?>\n<feedback>\n<report_metadata>\n<org_name>Yahoo</org_name>\n'
        "<email>dmarchelp@yahooinc.com</email>\n<report_id>1772512345.678901</report_id>\n<date_range>\n"
        f"<begin>{BEGIN}</begin>\n<end>{END}</end>\n</date_range>\n</report_metadata>\n<policy_published>\n"
        "<domain>acme-mail.com</domain>\n<adkim>r</adkim>\n<aspf>r</aspf>\n<p>reject</p>\n<pct>100</pct>\n"
        f"</policy_published>\n{''.join(records)}</feedback>\n"
    ).encode()


def of_2026(*records: str) -> bytes:
    """After RFC 9990: its namespace, here under a prefix, its new elements, the disposition "pass"."""
    inside = "".join(records).replace("</", "<//").replace("<", "<d:").replace("<d://", "</d:")
    return (
        '<?xml version="1.0" encoding="UTF-8"?><d:feedback xmlns:d="urn:ietf:params:xml:ns:dmarc-2.0">'
        "<d:version>1.0</d:version><d:report_metadata><d:org_name>Sample Reporter</d:org_name>"
        "<d:email>report_sender@example-reporter.example</d:email><d:report_id>3v98abbp8ya9n3va8yr8oa3ya</d:report_id>"
        f"<d:date_range><d:begin>{BEGIN}</d:begin><d:end>{END}</d:end></d:date_range><d:generator>x 1</d:generator>"
        "</d:report_metadata><d:policy_published><d:domain>acme-mail.com</d:domain><d:p>quarantine</d:p><d:np>none</d:np>"
        "<d:fo>1</d:fo><d:discovery_method>treewalk</d:discovery_method><d:testing>n</d:testing></d:policy_published>"
        f"{inside}</d:feedback>"
    ).encode()


def zipped(xml: bytes, name: str = f"google.com!acme-mail.com!{BEGIN}!{END}.xml", *, stored: bool = False) -> bytes:
    """The file in a zip archive."""
    made = io.BytesIO()
    how = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(made, "w", how) as archive:
        archive.writestr(name, xml)
    return made.getvalue()


def mail(
    data: bytes,
    *,
    name: str = f"google.com!acme-mail.com!{BEGIN}!{END}.zip",
    kind: tuple[str, str] = ("application", "zip"),
    subject: str = "Report domain: acme-mail.com Submitter: google.com Report-ID: 12830491846273561920",
    text: str = "",
) -> bytes:
    """A message that brings it; without text it is the attachment itself, as Google sends it."""
    message = EmailMessage()
    message["From"] = "noreply-dmarc-support@google.com"
    message["To"] = "dmarc@acme-mail.com"
    message["Subject"] = subject
    message["Message-ID"] = "<1@google.com>"
    if text:
        message.set_content(text)
        message.add_attachment(data, *kind, filename=name)
    else:
        message.set_content(data, *kind, filename=name, disposition="attachment")
    return message.as_bytes()


def packed(xml: bytes) -> bytes:
    """The file as gzip."""
    return gzip.compress(xml, mtime=0)
