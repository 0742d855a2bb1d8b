"""What reading reports costs on this machine: bounces a second on one core, read and classified."""

import time

from ops.classified import parsed_and_understood

_ORIGINAL = (
    b"Received: from out.firm.test (out.firm.test [192.0.2.7]) by mx.firm.test with ESMTPS id 4N1w26; Mon, 2 Nov "
    b"2026 01:09:18 +0000\r\n"
    * 6
    + b"Message-ID: <abcdefghijklmnopqrstuvwxyz234567abcdefg@firm.test>\r\nFrom: Bob <bob@firm.test>\r\nTo: "
    b"anna@customer.test\r\n"
    b"Subject: Hello\r\n\r\n" + b"A line of the text that came back.\r\n" * 60
)
TYPICAL: tuple[bytes, ...] = (
    b"From: MAILER-DAEMON@mx.firm.test (Mail Delivery System)\r\nTo: bob@firm.test\r\nSubject: Undelivered Mail "
    b"Returned to Sender\r\n"
    b'Content-Type: multipart/report; report-type=delivery-status; boundary="B/mx"\r\n\r\n--B/mx\r\n'
    b"Content-Type: text/plain\r\n\r\n"
    b"This is the mail system at host mx.firm.test.\r\n\r\n<anna@customer.test>: host "
    b"mx.customer.test[192.0.2.1] said: 550 5.1.1\r\n"
    b"    <anna@customer.test>: Recipient address rejected: User unknown in virtual\r\n    mailbox table (in "
    b"reply to RCPT TO command)\r\n"
    b"\r\n--B/mx\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.firm.test\r\n\r\n"
    b"Final-Recipient: rfc822; "
    b"anna@customer.test\r\nAction: failed\r\nStatus: 5.1.1\r\nRemote-MTA: dns; mx.customer.test\r\n"
    b"Diagnostic-Code: smtp; 550 5.1.1\r\n"
    b"    <anna@customer.test>: Recipient address rejected: User unknown\r\n\r\n--B/mx\r\nContent-Type: "
    b"message/rfc822\r\n\r\n" + _ORIGINAL + b"\r\n--B/mx--\r\n",
    b"From: MAILER-DAEMON@mx.firm.test\r\nTo: bob@firm.test\r\nSubject: failure notice\r\n\r\nHi. This is the "
    b"qmail-send program at "
    b"mx.firm.test.\r\nI'm afraid I wasn't able to deliver your message to the following addresses.\r\n\r\n"
    b"<anna@customer.test>:\r\n"
    b"192.0.2.1 does not like recipient.\r\nRemote host said: 552 5.2.2 mailbox full\r\nGiving up on 192.0.2.1.\r\n\r\n"
    b"--- Below this line is a copy of the message.\r\n\r\n" + _ORIGINAL,
    b"From: Anna <anna@customer.test>\r\nTo: bob@firm.test\r\nSubject: Out of office: Hello\r\nAuto-Submitted: "
    b"auto-replied\r\n\r\n"
    b"I am away until Monday.\r\n" + b"> quoted\r\n" * 30,
)


def reports_rate(seconds: float, messages: tuple[bytes, ...] = TYPICAL) -> float:
    """Return the messages that are read and classified in a second of one core's time, whoever else wants the core."""
    start = time.process_time()
    done = 0
    while time.process_time() - start < seconds:
        for raw in messages:
            parsed_and_understood(raw)
        done += len(messages)
    return done / (time.process_time() - start)
