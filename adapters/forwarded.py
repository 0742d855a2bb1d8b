"""The mail by which a person's letter is passed on, whole, as an attachment: RFC 5322 with CRLF, 7-bit safe."""

import base64
import hashlib
import re
from datetime import datetime
from email.utils import format_datetime

MAX_LINE = 998
"""Octets of a line (RFC 5322 2.1.1)."""
_LINE_END = re.compile(rb"\r\n|\r|\n")


def forwarded(raw: bytes, *, name: str, mailbox: str, sender: str, to: str, at: datetime, cut: bool = False) -> bytes:
    """Return the mail. `name` is the letter's own: the same letter has the same Message-ID each time.

    RFC 2046 5.2.1 lets message/rfc822 have no transfer encoding, so a letter that is not 7-bit travels as a file.
    Auto-Submitted (RFC 3834): nobody's machine answers it, and no reader of ours takes it for a reply.
    """
    digest = hashlib.sha256(f"{name} {mailbox}".encode()).hexdigest()
    boundary = f"letter-{digest[:32]}"
    what = "Its beginning is attached; it is longer." if cut else "It is attached as it came."
    head = (
        f"From: {sender}\r\nTo: {to}\r\nSubject: Reply to {mailbox}\r\nDate: {format_datetime(at)}\r\n"
        f"Message-ID: <{digest[:40]}@{sender.rpartition('@')[2]}>\r\nAuto-Submitted: auto-generated\r\n"
        f'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="{boundary}"\r\n\r\n--{boundary}\r\n'
        "Content-Type: text/plain; charset=us-ascii\r\n\r\n"
        f"A letter came to {mailbox}. {what}\r\n\r\n"
        f"It lies there, as new as it came. Answer from that mailbox: then the\r\nconversation stays together.\r\n\r\n"
        f"--{boundary}\r\n"
    )
    return head.encode("ascii", "replace") + _attached(raw) + f"\r\n--{boundary}--\r\n".encode()


def _attached(raw: bytes) -> bytes:
    letter = _LINE_END.sub(b"\r\n", raw)
    plain = letter.isascii() and b"\0" not in letter and all(len(line) <= MAX_LINE for line in letter.split(b"\r\n"))
    head = b'Content-Disposition: attachment; filename="letter.eml"\r\n'
    if plain:
        return head + b"Content-Type: message/rfc822\r\n\r\n" + letter
    head += b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    return head + base64.encodebytes(raw).replace(b"\n", b"\r\n")
