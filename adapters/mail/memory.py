"""A way out that keeps what it is given: for tests of everything around it, under the same contract."""

from adapters.interface import Claim, Mail, Sought, beyond_ascii, reply_of
from adapters.secrets import Secrets
from schemas.sending import Accepted, NotSent, Outcome, Refused, RouteCall


class MemoryAdapter:
    """Accepts and keeps; `refusing` maps a recipient's local part to (code, text)."""

    def __init__(self, _secrets: Secrets) -> None:
        self.kept: list[Mail] = []
        self.refusing: dict[str, tuple[int, str]] = {}

    async def submit(self, call: RouteCall, mail: Mail, claim: Claim) -> Outcome:
        """Keep the mail once the claim says yes."""
        if (wrong := beyond_ascii(mail)) is not None:
            return wrong
        said = self.refusing.get(mail.recipient.partition("@")[0])
        if said is not None:
            return Refused(reply_of(call.provider, "rcpt", *said))
        if not await claim():
            return NotSent("claim", "the claim was refused")
        self.kept.append(mail)
        return Accepted(str(len(self.kept)), reply_of(call.provider, "dot", 250, "2.0.0 kept"))

    async def find(self, _call: RouteCall, _sought: Sought) -> Accepted | Refused | None:
        """It never loses an answer, so there is nothing to look up."""
        return None

    async def check(self, _call: RouteCall) -> str:
        """It is always there."""
        return "keeps mail in memory"

    async def close(self) -> None:
        """Nothing to close."""
