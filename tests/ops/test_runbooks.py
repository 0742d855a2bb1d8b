"""Every alert, whoever raises it, names a runbook that is there; every runbook is what an alert names."""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import yaml

import ops
import schemas.health

ROOT = Path(ops.__file__).parent.parent
FOLDER = ROOT / "ops" / "runbooks"
FLOORS = ("ops", "streams", "adapters", "projections")
PROCEDURES = {"restore"}
"""What no alert names: `mailfleet restore --help` does, and it is read before there is anything to alert."""


def _words(node: ast.expr, values: dict[str, Any]) -> list[str]:
    """Return all texts that an expression over a fact can be: a text, a closed field, or texts and fields in a row."""
    match node:
        case ast.Constant(value=str() as text):
            return [text]
        case ast.FormattedValue(value=inner):
            return _words(inner, values)
        case ast.JoinedStr(values=parts):
            texts = [""]
            for part in parts:
                texts = [text + word for text in texts for word in _words(part, values)]
            return texts
        case ast.Attribute(value=ast.Name(id=name), attr=field) if hasattr(values.get(name), "__annotations__"):
            if words := get_args(get_type_hints(values[name]).get(field)):
                return list(words)
    raise AssertionError(f"which runbooks {ast.unparse(node)} can be is not known: name them, or a closed field")


def runbooks_named(tree: ast.Module, module: Any) -> Iterator[str]:
    """Yield the runbooks that a module's AlertRaised can name."""
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
        given = {
            arg.arg: getattr(module, ast.unparse(arg.annotation), None)
            for arg in function.args.args
            if arg.annotation is not None
        }
        for call in ast.walk(function):
            if isinstance(call, ast.Call) and ast.unparse(call.func).rpartition(".")[2] == "AlertRaised":
                (node,) = [*call.args[5:], *(word.value for word in call.keywords if word.arg == "runbook")]
                yield from _words(node, given)


def told_as_facts() -> set[str]:
    """The runbooks of alerts that are facts."""
    named: set[str] = set()
    for path in (path for floor in FLOORS for path in (ROOT / floor).rglob("*.py")):
        text = path.read_text("utf-8")
        if "AlertRaised(" in text:
            module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
            named |= set(runbooks_named(ast.parse(text), module))
    return named


def told_by_prometheus() -> set[str]:
    """The runbooks of Prometheus's rules."""
    groups = yaml.safe_load((ROOT / "ops" / "prometheus" / "rules.yml").read_text("utf-8"))["groups"]
    return {Path(rule["annotations"]["runbook"]).stem for group in groups for rule in group["rules"]}


def test_what_an_alert_names_is_there_and_what_is_there_an_alert_names() -> None:
    assert told_as_facts() | told_by_prometheus() | PROCEDURES == {path.stem for path in FOLDER.glob("*.md")}


def test_the_alerts_of_every_kind_of_sender_and_every_feed_are_seen() -> None:
    assert {"mailbox_health", "domain_health", "route_health", "client_health", "gmail_spam", "dmarc_own"} <= (
        told_as_facts()
    )


def test_procedures_are_named_where_they_are_needed() -> None:
    commands = "".join(path.read_text("utf-8") for path in (ROOT / "ops" / "commands").glob("*.py"))
    assert all(f"ops/runbooks/{name}.md" in commands for name in PROCEDURES)


def test_the_check_refuses_a_runbook_that_it_cannot_know() -> None:
    tree = ast.parse("def f(fact: AlertRaised): return AlertRaised(c, n, s, t, d, fact.title)")
    with pytest.raises(AssertionError, match=r"fact\.title can be is not known"):
        list(runbooks_named(tree, schemas.health))
