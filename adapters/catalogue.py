"""The providers: one line adds one. The contract suite finds them here."""

from collections.abc import Callable, Mapping

from adapters.interface import MailAdapter
from adapters.mail.mailgun import MailgunAdapter
from adapters.mail.memory import MemoryAdapter
from adapters.mail.ses import SesAdapter
from adapters.mail.smtp import SmtpAdapter
from adapters.mail.zoho import ZohoAdapter
from adapters.secrets import Secrets

PROVIDERS: Mapping[str, Callable[[Secrets], MailAdapter]] = {
    "smtp": SmtpAdapter,
    "zoho": ZohoAdapter,
    "ses": SesAdapter,
    "memory": MemoryAdapter,
    "mailgun": MailgunAdapter,
}
