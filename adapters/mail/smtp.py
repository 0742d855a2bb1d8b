"""Any SMTP server of which nothing more is known: an agency's own MTA, a relay, a mailbox provider."""

from adapters.interface import Sought
from adapters.mail.smtp_session import SmtpSession
from schemas.sending import Accepted, Refused, RouteCall


class SmtpAdapter(SmtpSession):
    """Plain SMTP submission."""

    async def find(self, _call: RouteCall, _sought: Sought) -> Accepted | Refused | None:
        """SMTP keeps no record that a client could read; an agency's own MTA reports by its log."""
        return None
