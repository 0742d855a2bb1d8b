"""Zoho Mail: submission over SMTP (465 implicit TLS, 587 STARTTLS), and the Sent folder over IMAPS as its record.

Zoho keeps a copy of what it took over SMTP in the mailbox's Sent folder, under our Message-ID; so a hit there says
that an attempt was accepted. A miss says nothing: the copy can be switched off, and IMAP as well.

Options of a route: `imap_host` (else that of the SMTP host's region: smtp.zoho.eu → imap.zoho.eu, smtppro.zoho.com →
imappro.zoho.com; zoho.com/mail/help/imap-access.html), `imap_port` (993), `sent_folder` (else found by its flag).
"""

import asyncio
import logging
import ssl
from datetime import datetime, timedelta

from imapclient.exceptions import IMAPClientError
from imapclient.imapclient import SENT, IMAPClient, SocketTimeout

from adapters.interface import RouteUnfit, Sought, reply_of, without_addresses
from adapters.mail.smtp_session import SmtpSession, without_login
from adapters.secrets import SecretMissing
from schemas.sending import Accepted, Refused, RouteCall

log = logging.getLogger(__name__)

CONNECT_S = 20.0
READ_S = 60.0
LOOK_BACK = timedelta(minutes=2)
"""How far Zoho's clock may be behind ours."""


class _NoRecords(Exception):
    """There is no Sent folder to look into; the text says why."""


_FAILURES = (_NoRecords, IMAPClientError, SecretMissing, OSError, ValueError)


class ZohoAdapter(SmtpSession):
    """SMTP submission, with the Sent folder as the record."""

    async def find(self, call: RouteCall, sought: Sought) -> Accepted | Refused | None:
        """Return Accepted when the Sent folder has the Message-ID. None proves nothing."""
        try:
            uids = await asyncio.to_thread(self._in_sent, call, sought.message_id, sought.claimed_at - LOOK_BACK)
        except _FAILURES as error:
            log.warning("the Sent folder of route %s cannot be searched: %s", call.route, self._words(call, error))
            return None
        if not uids:
            return None
        return Accepted("", reply_of(call.provider, "dot", 250, f"found in the Sent folder (UID {uids[0]})"))

    async def check(self, call: RouteCall) -> str:
        """Log in over SMTP and over IMAPS. Raises RouteUnfit."""
        said = await super().check(call)
        try:
            await asyncio.to_thread(self._in_sent, call, "")
        except _FAILURES as error:
            raise RouteUnfit(
                f"{said}, but the Sent folder cannot be read: {self._words(call, error)}; enable IMAP for the mailbox "
                "(Zoho Mail, Settings, Mail Accounts, IMAP) or correct imap_host"
            ) from None
        return f"{said}, {imap_host(call)} shows the Sent folder"

    def _in_sent(self, call: RouteCall, message_id: str, since: datetime | None = None) -> list[int]:
        """Return the UIDs in the Sent folder with this Message-ID; none is sought when it is empty. Blocks.

        All attempts of a send have one Message-ID: what came into the folder before `since` is of an earlier one.
        """
        secret = self._secrets.resolve(call.secret_ref)
        with self._imap(call) as client:
            if secret.isascii():
                client.login(call.username, secret)
            else:
                client.plain_login(call.username, secret)  # LOGIN takes no other letters (RFC 3501 9)
            folder = call.options.get("sent_folder") or client.find_special_folder(SENT)
            if folder is None:
                raise _NoRecords("the mailbox has no Sent folder; name it by the option sent_folder")
            client.select_folder(folder, readonly=True)
            if not message_id:
                return []
            uids = client.search(["HEADER", "Message-ID", message_id.strip("<>")])
            client.normalise_times = False  # else they come without their zone
            came = client.fetch(uids, ["INTERNALDATE"]) if uids else {}
            return sorted(uid for uid, kept in came.items() if since is None or kept[b"INTERNALDATE"] >= since)

    def _imap(self, call: RouteCall) -> IMAPClient:
        context: ssl.SSLContext = self.trust(call)
        timeout = SocketTimeout(connect=CONNECT_S, read=READ_S)
        port = int(call.options.get("imap_port", "993"))
        return IMAPClient(imap_host(call), port=port, ssl_context=context, timeout=timeout)

    def _words(self, call: RouteCall, error: BaseException) -> str:
        """Return what went wrong, fit for logs and facts."""
        try:
            secret = self._secrets.resolve(call.secret_ref)
        except SecretMissing:
            secret = ""
        said = str(error)
        if said.startswith("b'"):  # IMAPClient shows the server's octets as Python writes them
            said = said[2:-1]
        return without_addresses(without_login(f"{type(error).__name__}: {said}", call.username, secret))


def imap_host(call: RouteCall) -> str:
    """Return the IMAP host of the mailbox's region. Raises _NoRecords."""
    given = call.options.get("imap_host", "")
    if given:
        return given
    if beside := imap_host_beside(call.host):
        return beside
    raise _NoRecords(f"{call.host} is no SMTP host of Zoho's; name the IMAP host by the option imap_host")


def imap_host_beside(smtp_host: str) -> str:
    """Return the IMAP host of an SMTP host's region, or "" when it is none of Zoho's."""
    return "imap" + smtp_host.removeprefix("smtp") if smtp_host.startswith("smtp") else ""
