"""What a reply means: one classifier for live SMTP replies, API errors and bounces.

The rules are data (verdict_rules.toml), read once at import; the first that matches wins.
"""

import re
import tomllib
from importlib.resources import files
from typing import Any

import msgspec

from schemas.sending import Action, Fault, Reply, ReplyClass, Verdict


class Rule(msgspec.Struct, frozen=True, rename={"reply_class": "class"}):
    """One rule; empty fields match everything. `codes` is an inclusive range, `line` taught the rule."""

    name: str
    reply_class: ReplyClass
    fault: Fault
    action: Action
    line: str
    source: str
    stages: tuple[str, ...] = ()
    codes: tuple[int, int] = (0, 999)
    text: str = ""
    enhanced: str = ""

    def matches(self, reply: Reply) -> bool:
        """Whether the rule speaks of this reply."""
        return (
            (not self.stages or reply.stage in self.stages)
            and self.codes[0] <= reply.code <= self.codes[1]
            and (not self.enhanced or re.fullmatch(self.enhanced, reply.enhanced) is not None)
            and (not self.text or re.search(self.text, _said(reply), re.IGNORECASE) is not None)
        )


def _said(reply: Reply) -> str:
    return f"{reply.code} {reply.enhanced} {reply.text}" if reply.enhanced else f"{reply.code} {reply.text}"


def _load() -> tuple[Rule, ...]:
    raw: dict[str, Any] = tomllib.loads(files("streams.delivery").joinpath("verdict_rules.toml").read_text("utf-8"))
    return tuple(msgspec.convert(rule, Rule, strict=True) for rule in raw["rule"])


RULES = _load()


def verdict(reply: Reply) -> Verdict:
    """Return what the reply means, and by which rule."""
    rule = next(rule for rule in RULES if rule.matches(reply))
    return Verdict(rule.reply_class, rule.fault, rule.fault, rule.action, rule.name)
