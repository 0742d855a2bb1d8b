"""Mail in a mailbox over IMAPS (RFC 3501): read in the order of UIDs, left as it is unless told otherwise.

Everything here blocks and is for a thread; `hang_up` alone may be called from another one, and ends what waits.
Only the first part of a message is fetched: a report says what it says there, and a message may have any size.
"""

import contextlib
import os
import re
import socket
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from imapclient import SEEN
from imapclient.exceptions import CapabilityError, IMAPClientError, LoginError
from imapclient.imapclient import IMAPClient, SocketTimeout

from adapters.interface import without_addresses
from adapters.mail.smtp_session import without_login
from adapters.reports.mime import MAX_BYTES
from adapters.secrets import SecretMissing, Secrets
from schemas.ids import ClientId, MailboxAddress

FOLDER = "INBOX"
CONNECT_S = 20.0
READ_S = 60.0
_FOR_NOW = re.compile(r"\[(UNAVAILABLE|INUSE|LIMIT)\]|too many|try again|temporar", re.IGNORECASE)
"""A login refused in these words may be taken later (RFC 5530 3)."""


class Unreadable(Exception):
    """A mailbox cannot be read; the text says why, without secrets and addresses. `lasting`: a person must act."""

    def __init__(self, what: str, *, lasting: bool = False) -> None:
        super().__init__(what)
        self.lasting = lasting


@dataclass(frozen=True)
class Account:
    """A mailbox and how to read it. `after_reading`: "" leave it, "seen" mark as read, "move:FOLDER" move there."""

    mailbox: MailboxAddress
    client: ClientId
    host: str
    username: str
    secret_ref: str
    port: int = 993
    ca_file_ref: str = ""
    after_reading: str = ""
    bounces_only: bool = False
    folder: str = FOLDER
    auth: str = ""  # "xoauth2": the secret is an access token, as for the route (adapters/mail/smtp_session.py)


@dataclass(frozen=True)
class Message:
    """A message, or the first part of a long one. `at` is when it came into the mailbox, None when not told."""

    uid: int
    raw: bytes
    at: datetime | None


class Trust:
    """Which certificates are believed. Reading the system's takes 20 ms: a context is kept until its file changes."""

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets
        self._kept: dict[tuple[str, int], ssl.SSLContext] = {}

    def context(self, ca_file_ref: str) -> ssl.SSLContext:
        """Return the context of a CA file beside the system's. Raises SecretMissing, OSError."""
        path = self._secrets.path(ca_file_ref) if ca_file_ref else None
        key = (ca_file_ref, path.stat().st_mtime_ns if path else 0)
        if key not in self._kept:
            context = ssl.create_default_context()
            if path is not None:
                context.load_verify_locations(path)
            self._kept = {known: kept for known, kept in self._kept.items() if known[0] != ca_file_ref} | {key: context}
        return self._kept[key]


class Inbox:
    """One connection to one mailbox. Every method raises Unreadable."""

    def __init__(self, account: Account, secrets: Secrets, trust: Trust) -> None:
        self._account = account
        self._secrets = secrets
        self._trust = trust
        self._client: IMAPClient | None = None
        self.uid_next = 0  # as the server said when the folder was opened; 0 = it did not

    def open(self) -> int:
        """Connect, log in, open the folder; return its UIDVALIDITY. The password is read anew each time."""
        with self._told():
            secret = self._secrets.resolve(self._account.secret_ref)
            self._client = self._connect()
            self._log_in(self._client, secret)
            told = self._client.select_folder(self._account.folder, readonly=not self._account.after_reading)
            self.uid_next = int(told.get(b"UIDNEXT", 0))
            if b"UIDVALIDITY" not in told:
                raise Unreadable("the server gives no UIDVALIDITY: its UIDs do not last, the folder cannot be followed")
            return int(told[b"UIDVALIDITY"])

    def uids_after(self, uid: int) -> list[int]:
        """Return the UIDs above `uid`, ascending."""
        with self._told():
            # "n:*" always names the last message, also when its UID is below n (RFC 3501 6.4.8)
            return sorted(n for n in self._on().search(["UID", f"{uid + 1}:*"]) if n > uid)

    def uids_since(self, at: datetime) -> list[int]:
        """Return the UIDs of what came on the day of `at` or later, ascending."""
        with self._told():
            return sorted(self._on().search(["SINCE", at.date()]))

    def fetch(self, uids: Sequence[int], most: int = MAX_BYTES) -> list[Message]:
        """Return the first `most` octets of the messages in order of UID; one that was deleted is not among them."""
        with self._told():
            body = f"BODY.PEEK[]<0.{most}>".encode()  # PEEK: the flag \Seen stays as it is
            told = self._on().fetch(list(uids), [body, b"INTERNALDATE"])
            return [_message(uid, told[uid]) for uid in sorted(told) if uid in uids]

    def settle(self, uids: Sequence[int]) -> None:
        """Do with messages what the account says is done after reading."""
        with self._told():
            what, _, folder = self._account.after_reading.partition(":")
            if what == "move":
                self._on().move(list(uids), folder)
            else:
                self._on().add_flags(list(uids), [SEEN], silent=True)

    def wait(self, seconds: float) -> bool:
        """Wait until the server tells of something, at most so long; False at once when it does not offer to.

        What comes just as IDLE begins may go unheard: it lies in the library's buffer, where `idle_check` does not
        look, or the server (Dovecot 2.3) counts it as told. So whoever waits looks afterwards, and does not wait long.
        """
        with self._told():
            client = self._on()
            if not client.has_capability("IDLE"):
                return False
            client.idle()
            client.idle_check(timeout=seconds)
            client.idle_done()
            return True

    def hang_up(self) -> None:
        """End the connection under whoever waits on it. From any thread."""
        client = self._client
        with contextlib.suppress(OSError, AttributeError):  # it has ended already
            if client is not None:
                with socket.socket(fileno=os.dup(client.socket().fileno())) as twin:
                    twin.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Log out, however that goes."""
        client, self._client = self._client, None
        if client is not None:
            try:
                client.logout()
            except (IMAPClientError, OSError, ValueError):
                _drop(client)

    # ── inside ───────────────────────────────────────────────────────────────────────────────────

    def _on(self) -> IMAPClient:
        if self._client is None:
            raise Unreadable("the connection has ended")
        return self._client

    def _connect(self) -> IMAPClient:
        context = self._trust.context(self._account.ca_file_ref)
        timeout = SocketTimeout(connect=CONNECT_S, read=READ_S)
        client = IMAPClient(self._account.host, port=self._account.port, ssl_context=context, timeout=timeout)
        client.normalise_times = False
        return client

    def _log_in(self, client: IMAPClient, secret: str) -> None:
        user = self._account.username or self._account.mailbox
        if self._account.auth == "xoauth2":
            client.oauth2_login(user, secret)
        elif secret.isascii():
            client.login(user, secret)
        else:
            client.plain_login(user, secret)  # LOGIN takes no other letters (RFC 3501 9)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Turn what servers, networks and the client library do into Unreadable, and hang up."""
        try:
            yield
        except Unreadable:
            self._drop()
            raise
        except SecretMissing as error:
            raise Unreadable(str(error), lasting=True) from None
        except LoginError as error:
            raise self._unreadable(f"the server refuses the login: {_said(error)}", _said(error)) from None
        except ssl.SSLCertVerificationError as error:
            raise self._unreadable(f"the server's certificate is not trusted: {error.verify_message}", "") from None
        except CapabilityError as error:
            raise self._unreadable(f"after_reading cannot be done: {_said(error)}", "") from None
        # The library meets what no server should say with whatever Python raises.
        except (IMAPClientError, OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise self._unreadable(f"{type(error).__name__}: {_said(error)}", None) from None

    def _unreadable(self, what: str, refusal: str | None) -> Unreadable:
        """Return the failure, fit for facts and logs. `refusal` None: nobody refused, it may pass."""
        self._drop()
        lasting = refusal is not None and not _FOR_NOW.search(refusal)
        try:
            secret = self._secrets.resolve(self._account.secret_ref)
        except SecretMissing:
            secret = ""
        user = self._account.username or self._account.mailbox
        return Unreadable(without_addresses(without_login(what, user, secret)), lasting=lasting)

    def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            _drop(client)


def _drop(client: IMAPClient) -> None:
    with contextlib.suppress(OSError, IMAPClientError, ValueError):  # it is gone anyway
        client.shutdown()


def _said(error: BaseException) -> str:
    said = str(error)
    return said[2:-1] if said.startswith("b'") else said  # IMAPClient shows the server's octets as Python writes them


def _message(uid: int, told: dict[bytes, object]) -> Message:
    raw = next((value for name, value in told.items() if name.startswith(b"BODY[]")), b"")
    at = told.get(b"INTERNALDATE")
    aware = at.astimezone(UTC) if isinstance(at, datetime) and at.tzinfo else None
    return Message(uid, raw if isinstance(raw, bytes) else b"", aware)
