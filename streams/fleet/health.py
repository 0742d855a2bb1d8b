"""Health: what the mails of a sender came to, against the policy's thresholds."""

from schemas.health import Sign
from schemas.sending import Verdict


def sign_of(verdict: Verdict) -> Sign:
    """Return what a refusal says about its senders."""
    if verdict.fault == "recipient" and verdict.reply_class == "hard":
        return "hard_bounce"
    match verdict.reply_class:
        case "block" | "sender_account":
            return "block"
        case "soft" | "rate_limit":
            return "deferral"
        case _:
            return "refusal"
