"""What several pages show: a story as `mailfleet why` tells it, the DNS lights, the plots."""

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from typing import Any

from ops.page import queries
from ops.page.html import Html, downwards, link, section, state, table, tag
from ops.page.plots import bars, days_until
from ops.page.queries import DAYS, Row

LIGHTS = {"good": "good", "broken": "bad", "missing": "bad", "could_not_be_checked": "unsure"}
WORST = ("broken", "missing", "could_not_be_checked", "good")
ORDER = ("spf", "dkim", "dmarc", "alignment", "return_path", "ptr", "mx", "blocklist", "ip_blocklist", "expiry")


def told(found: Mapping[str, list[Row]], client: str) -> Iterable[Html]:
    """Show what `explained` found: one row downwards, several as a table, the story in sentences."""
    for title, rows in found.items():
        if title == "story":
            yield section("Story", _story(rows))
        elif rows:
            linked = [{key: _cell(key, value, client, row) for key, value in row.items()} for row in rows]
            yield section(title.capitalize(), downwards(linked[0]) if len(rows) == 1 else table(linked, ""))


def _story(lines: list[Row]) -> Html:
    if not lines:
        return tag("p", "nothing was decided about it yet", class_="none")
    return tag("ol", (tag("li", tag("span", line["at"], class_="at"), line["what"]) for line in lines), class_="story")


def _cell(column: str, value: Any, client: str, row: Row) -> Any:
    if column == "mailbox" and value:
        return link(value, "/mailbox", name=value)
    if column in ("client", "send") and value:
        return link(value, f"/{column}", name=value)
    if column == "route" and value:
        return link(value, "/route", client=client, name=value) if client else value
    if column == "carries" and value:
        return link(value, "/send", name=value.rpartition("/")[0])
    if column == "state" and "scope" in row:
        return state(value)
    return ", ".join(value) if isinstance(value, list) else value


def dns_lights(findings: list[Row]) -> Html:
    """One light for each check of a domain: the worst that any of its routes has."""
    if not findings:
        return tag("span", "not looked at yet", class_="none")
    verdicts: dict[str, list[str]] = {}
    for row in findings:
        verdicts.setdefault(row["check"], []).append(row["verdict"])
    worst = {check: min(said, key=WORST.index) for check, said in verdicts.items()}
    return tag("span", (_light(check, worst[check]) for check in ORDER if check in worst), class_="lights")


def _light(check: str, verdict: str) -> Html:
    label = f"{check}: {verdict.replace('_', ' ')}"
    mark = {"good": "✓", "bad": "✗"}.get(LIGHTS[verdict], "?")
    word = check.replace("_", " ")
    return tag("span", mark, " ", word, class_=f"light {LIGHTS[verdict]}", title=label)


def mail_plots(
    connection: Any, client: str = "", domain: str = "", mailbox: str = "", route: str = ""
) -> Iterable[Html]:
    """Mails a day, and what of them came back, over the last days."""
    days = days_until(datetime.now(UTC).date(), DAYS)
    rows = queries.daily(connection, days[0], days[-1], client, domain, mailbox, route)
    if not rows:
        return
    yield bars("Mails a day", days, _series(days, rows, ("accepted", "deferred", "refused")))
    answered = [(row, row["accepted"] + row["refused"]) for row in rows]
    shares = [row | {key: 100 * row[key] / of for key in ("hard", "soft")} for row, of in answered if of]
    bounced = _series(days, shares, ("hard", "soft"))
    yield bars("Bounces of 100 mails", days, bounced, unit=" %")


def state_plot(connection: Any, client: str = "") -> Html:
    """Mailboxes that were not simply active, at the end of each of the last days."""
    days = days_until(datetime.now(UTC).date(), DAYS)
    counted = {(row["day"].date(), row["state"]): row["mailboxes"]
               for row in queries.states(connection, days[0], days[-1], client)}  # fmt: skip
    series = {word: [counted.get((day, word), 0) for day in days] for word in ("unhealthy", "watched", "probation")}
    return tag("div", bars("Mailboxes not simply active", days, series), class_="states")


def _series(days: list[date], rows: list[Row], names: tuple[str, ...]) -> dict[str, list[float]]:
    of_day = {row["day"]: row for row in rows}
    return {name: [float(of_day[day][name]) if day in of_day else 0.0 for day in days] for name in names}
