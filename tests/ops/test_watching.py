"""What watches the processes: the rules hold by promtool, and nothing names a metric that no process has."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import Counter, Histogram

from schemas.metrics import METRICS

FOLDER = Path("ops/prometheus")
NAME = re.compile(r"\bmailfleet_[a-z0-9_]+")
RULES = yaml.safe_load((FOLDER / "rules.yml").read_text("utf-8"))["groups"][0]["rules"]
DASHBOARD = json.loads(Path("ops/grafana/dashboards/mailfleet.json").read_text("utf-8"))


def exposed() -> set[str]:
    """The names under which processes expose the metrics of the one list."""
    names: set[str] = set()
    for metric in METRICS:
        name = metric._name  # the library has no public name of a metric
        if isinstance(metric, Counter):
            names.add(f"{name}_total")
        elif isinstance(metric, Histogram):
            names |= {f"{name}_bucket", f"{name}_sum", f"{name}_count"}
        else:
            names.add(name)
    return names


def shown() -> Iterator[tuple[str, str]]:
    """Every expression of the dashboard and the rules, with where it stands."""
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield f"panel {panel['title']}", target["expr"]
    for rule in RULES:
        yield f"alert {rule['alert']}", rule["expr"]


@pytest.mark.parametrize(("where", "expression"), list(shown()))
def test_no_panel_and_no_rule_names_a_metric_that_does_not_exist(where: str, expression: str) -> None:
    assert set(NAME.findall(expression)) <= exposed(), where


def test_the_check_would_see_a_metric_that_does_not_exist() -> None:
    assert not set(NAME.findall("rate(mailfleet_sent_total[5m])")) <= exposed()


def test_every_metric_is_shown_somewhere() -> None:
    named = {name for _, expression in shown() for name in NAME.findall(expression)}
    bases = {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in named}
    assert {metric._name for metric in METRICS} <= bases


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_every_alert_has_a_runbook_that_speaks_of_it(rule: dict[str, Any]) -> None:
    runbook = Path(rule["annotations"]["runbook"])
    assert runbook.read_text("utf-8").startswith(f"# {rule['alert']}")


@pytest.mark.parametrize(
    "command",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "rules.yml"),
        ("test", "rules", "rules_test.yml"),
    ],
    ids=lambda command: " ".join(command),
)
def test_promtool_finds_nothing_wrong(command: tuple[str, ...], needs: Callable[[str, str], None]) -> None:
    needs("promtool", "prometheus")
    done = subprocess.run(["promtool", *command], cwd=FOLDER, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested() -> None:
    tested = (FOLDER / "rules_test.yml").read_text("utf-8")
    untested = [rule["alert"] for rule in RULES if f"alertname: {rule['alert']}" not in tested]
    assert untested == []
