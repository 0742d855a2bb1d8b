"""What a reply means: one classifier for live SMTP replies, API errors and bounces.

The rules are data (verdict_rules.toml), read once at import; the first that matches wins.
"""

import re
import tomllib
from importlib.resources import files
from typing import Any, Literal

import msgspec

from schemas.sending import Action, Fault, Reach, Reply, ReplyClass, Verdict

ReportKind = Literal["bounce", "success", "complaint", "auto_reply", "challenge", "reply", "unknown"]
ReportClass = ReplyClass | Literal["complaint", "not_spam", "delivered", "auto_reply", "challenge", "reply"]
"""The closed list of what a report can mean: the classes of a refusal, and what is none."""
ReportAction = Action | Literal["ignore"]


class Rule(msgspec.Struct, frozen=True, rename={"reply_class": "class"}):
    """One rule; empty fields match everything. `codes` is an inclusive range, `line` taught the rule.

    `scope` is how far it reaches, if that is not as far as the fault. `text` is sought in "code enhanced words",
    whatever its case; in the file it may be a list, `any`, whose entries may name a list of [words]: "@nobody".
    """

    name: str
    reply_class: ReplyClass
    fault: Fault
    action: Action
    line: str
    source: str
    scope: Reach | None = None
    stages: tuple[str, ...] = ()
    codes: tuple[int, int] = (0, 999)
    text: str = ""
    any: tuple[str, ...] = ()
    enhanced: str = ""
    providers: tuple[str, ...] = ()

    def matches(self, reply: Reply) -> bool:
        """Whether the rule speaks of this reply."""
        return (
            (not self.providers or reply.provider in self.providers)
            and (not self.stages or reply.stage in self.stages)
            and self.codes[0] <= reply.code <= self.codes[1]
            and (not self.enhanced or re.fullmatch(self.enhanced, reply.enhanced) is not None)
            and (not self.text or re.search(self.text, _said(reply), re.IGNORECASE) is not None)
        )


def _said(reply: Reply) -> str:
    return f"{reply.code} {reply.enhanced} {reply.text}" if reply.enhanced else f"{reply.code} {reply.text}"


class ReportRule(msgspec.Struct, frozen=True, rename={"report_class": "class"}):
    """What a report of a kind means; `said` is matched against its action or feedback type."""

    name: str
    kind: ReportKind
    report_class: ReportClass
    scope: Fault
    action: ReportAction
    source: str
    said: str = ""


class Meaning(msgspec.Struct, frozen=True):
    """What a report means for one recipient; `hard`: the address will never work."""

    report_class: ReportClass
    hard: bool
    fault: Fault
    scope: Reach
    action: ReportAction
    rule: str


def _joined(rules: Any, words: dict[str, list[str]]) -> tuple[Rule, ...]:
    """Return the rules as read; the patterns of a list become one, which is what costs when replies are many."""
    read = msgspec.convert(rules, tuple[Rule, ...], strict=True)
    return tuple(
        msgspec.structs.replace(rule, text=_one_of(rule.any, words), any=()) if rule.any else rule for rule in read
    )


def _one_of(patterns: tuple[str, ...], words: dict[str, list[str]]) -> str:
    every = [one for named in patterns for one in (words[named[1:]] if named.startswith("@") else [named])]
    return "|".join(f"(?:{one})" for one in every)


def _load() -> tuple[tuple[Rule, ...], tuple[Rule, ...], tuple[ReportRule, ...]]:
    raw: dict[str, Any] = tomllib.loads(files("streams.delivery").joinpath("verdict_rules.toml").read_text("utf-8"))
    return (
        _joined(raw["provider_rule"], raw["words"]),
        _joined(raw["rule"], raw["words"]),
        msgspec.convert(raw["report"], tuple[ReportRule, ...]),
    )


PROVIDER_RULES, RULES, REPORT_RULES = _load()
NO_SENSE = RULES[-1].name
"""The last rule, for what is outside the grammar of replies."""


def verdict(reply: Reply) -> Verdict:
    """Return what the reply means, and by which rule."""
    rule = next(rule for rule in (*PROVIDER_RULES, *RULES) if rule.matches(reply))
    return Verdict(rule.reply_class, rule.fault, rule.scope or rule.fault, rule.action, rule.name)


def meaning(kind: ReportKind, action: str, reply: Reply) -> Meaning:
    """Return what a report means for one recipient.

    A bounce that quotes no reply, and whose words alone say nothing, counts as one of the reporting system's
    own: 4xx while it is delayed or its status says so, else 5xx. Who is only delayed is not dead.
    """
    if kind != "bounce":
        rule = next(r for r in REPORT_RULES if r.kind == kind and re.search(r.said, action, re.IGNORECASE))
        return Meaning(rule.report_class, False, rule.scope, rule.scope, rule.action, rule.name)
    delayed = action == "delayed"
    meant = verdict(reply)
    if meant.rule == NO_SENSE or (delayed and reply.code >= 500):
        waits = delayed or reply.enhanced.startswith("4")
        meant = verdict(msgspec.structs.replace(reply, code=450 if waits else 550))
    hard = meant.action == "suppress"
    return Meaning(meant.reply_class, hard, meant.fault, meant.scope, meant.action, meant.rule)
