"""The pages: each is a function of a connection to Postgres and what the address asks for."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ops.explained import explained
from ops.page import queries
from ops.page.html import Html, address, badge, downwards, gauge, link, section, state, table, tag
from ops.page.parts import WORST, dns_lights, mail_plots, state_plot, told
from ops.page.queries import Row

RUNBOOKS = Path(__file__).parent.parent / "runbooks"
Asked = Mapping[str, str]


@dataclass(frozen=True)
class Page:
    """What one address shows."""

    title: str
    body: Html
    status: int = 200


View = Callable[[Any, Asked], Page]


def overview(connection: Any, asked: Asked) -> Page:
    """How the day goes: what went out, what waits, who is out, what a person should know."""
    clients, waits, open_alerts = queries.today(connection), queries.waiting(connection), queries.alerts(connection)
    return _page(
        "Today",
        _tiles(connection, clients, waits, open_alerts),
        _stopped(connection),
        section("Alerts", _alerts(open_alerts[:5]), link("all alerts", "/alerts") if len(open_alerts) > 5 else "")
        if open_alerts
        else "",
        section("Clients", _clients(connection, clients)),
        section("What waits for what", _waits(waits)),
        tag("div", mail_plots(connection), state_plot(connection), class_="plots"),
    )


def mailboxes(connection: Any, asked: Asked) -> Page:
    """A list of mailboxes, those out of rotation first."""
    skip = int(asked["skip"]) if asked.get("skip", "").isascii() and asked.get("skip", "").isdigit() else 0
    skip = min(skip, 1_000_000)
    wanted = {key: asked.get(key, "") for key in ("client", "domain", "state")}
    found = queries.mailboxes(connection, **wanted, skip=skip)
    more = link("the next ones", "/mailboxes", **wanted, skip=str(skip + queries.PAGE_ROWS))
    return _page(
        "Mailboxes",
        tag("nav", _choices(connection, wanted), class_="choices"),
        _mailboxes(found[: queries.PAGE_ROWS]),
        more if len(found) > queries.PAGE_ROWS else "",
    )


def mailbox(connection: Any, asked: Asked) -> Page:
    """A mailbox with its story."""
    name = asked.get("name", "")
    found = explained(connection, name) if "@" in name else {}
    if not found.get("mailbox"):
        return missing(f"no mailbox {name} is known")
    client = found["mailbox"][0]["client"]
    stands = tag("p", found["mailbox"][0].pop("stands still because"), class_="lead")
    plots = tag("div", mail_plots(connection, client=client, mailbox=name), class_="plots")
    carried = section("Carried last", table(_linked(queries.of_mailbox(connection, name)), "no mail yet"))
    return _page(name, stands, told(found, client), plots, carried)


def domains(connection: Any, asked: Asked) -> Page:
    """All sending domains, with what the DNS says of each."""
    findings, closed = queries.findings(connection), queries.closed(connection)
    rows = [_domain(row, _of(row, findings), _of(row, closed)) for row in queries.domains(connection)]
    return _page("Domains", table(rows, "no domain is declared yet: mailfleet apply FLEET.toml"))


def domain(connection: Any, asked: Asked) -> Page:
    """A domain with its story."""
    client, name = asked.get("client", ""), asked.get("name", "")
    rows = queries.domains(connection, client, name) if name else []
    if not rows:
        return missing(f"no domain {name} is known")
    client = rows[0]["client"]
    findings, closed = queries.findings(connection, client, name), queries.closed(connection, client, name)
    return _page(
        name,
        downwards(_domain(rows[0], findings, closed)),
        section("What the DNS says", table(_findings(findings), "nobody has looked yet: python -m ops.run dns")),
        told(_sender(connection, name), client),
        tag("div", mail_plots(connection, client=client, domain=name), class_="plots"),
        section("Mailboxes", _mailboxes(queries.mailboxes(connection, client, name)[: queries.PAGE_ROWS])),
    )


def routes(connection: Any, asked: Asked) -> Page:
    """All ways out."""
    return _page("Routes", table([_route(row) for row in queries.routes(connection)], "no route is declared yet"))


def route(connection: Any, asked: Asked) -> Page:
    """A route with its story."""
    client, name = asked.get("client", ""), asked.get("name", "")
    rows = queries.routes(connection, client, name) if client and name else []
    if not rows:
        return missing(f"no route {client}/{name} is known")
    return _page(
        f"{client}/{name}",
        downwards(_route(rows[0])),
        told(_sender(connection, f"{client}/{name}"), client),
        tag("div", mail_plots(connection, client=client, route=name), class_="plots"),
    )


def client(connection: Any, asked: Asked) -> Page:
    """A client with its story."""
    name = asked.get("name", "")
    rows = [row for row in queries.today(connection) if row["client"] == name]
    if not rows:
        return missing(f"no client {name} is known")
    return _page(
        name,
        section("Today", _clients(connection, rows)),
        section("What waits for what", _waits([w for w in queries.waiting(connection) if w["client"] == name])),
        told(_sender(connection, name), name),
        tag("div", mail_plots(connection, client=name), state_plot(connection, name), class_="plots"),
    )


def send(connection: Any, asked: Asked) -> Page:
    """A send with its story, as `mailfleet why` tells it."""
    name = asked.get("name", "")
    found = explained(connection, name) if name and "@" not in name else {}
    if not (found.get("send") or found.get("refused requests")):
        return missing(f"no send {name} is known: was its request published, and is the projector running?")
    return _page(name, told(found, name.rpartition("/")[0]))


def waiting(connection: Any, asked: Asked) -> Page:
    """What waits for what, and what was refused at once."""
    client, limit = asked.get("client", ""), asked.get("limit", "")
    longest = _linked(queries.wait_longest(connection, client, limit))
    of = " ".join(word for word in (client, limit) if word)
    return _page(
        "Waiting",
        section("What waits for what", _waits(queries.waiting(connection))),
        section("Lists that wait or are held", table(queries.lists(connection), "none")),
        section("Refused at once", table(queries.refused(connection), "none in 30 days")),
        section(f"The longest: {of}" if of else "The longest", table(longest, "nothing waits")),
    )


def alerts(connection: Any, asked: Asked) -> Page:
    """What a person should know, and what has ended."""
    ended = table(_linked(queries.resolved(connection)), "none")
    return _page("Alerts", _alerts(queries.alerts(connection)), section("Ended in the last 7 days", ended))


def search(connection: Any, asked: Asked) -> Page:
    """What bears a name."""
    name = asked.get("q", "").strip()
    rows = queries.search(connection, name) if name else []
    shown = [{"what": r["what"], "name": _to(r["what"], r["name"], r["told"]), "": r["told"]} for r in rows]
    nothing = f"nothing is known of {name}: give a send id, CLIENT/ID, or a part of a mailbox, domain, route or client"
    return _page(f"Search: {name}" if name else "Search", table(shown, nothing))


def runbook(name: str) -> Page:
    """What to do about an alert: the file as it stands."""
    known = {path.stem: path for path in RUNBOOKS.glob("*.md")}
    if name not in known:
        return missing(f"no runbook {name} is there")
    return _page(f"Runbook {name}", tag("pre", _unwrapped(known[name].read_text("utf-8")), class_="prose"))


def _unwrapped(text: str) -> str:
    """Return text whose paragraphs and list items are one line each: a phone wraps them itself."""
    return re.sub(r"(?<=\S)\n(?: {2,})?(?=[^\s#*|\d-])", " ", text)


def missing(sentence: str) -> Page:
    """Nothing of that name, said in a sentence."""
    return Page("Not found", tag("p", sentence, class_="none"), 404)


VIEWS: Mapping[str, View] = {
    "/": overview,
    "/mailboxes": mailboxes,
    "/mailbox": mailbox,
    "/domains": domains,
    "/domain": domain,
    "/routes": routes,
    "/route": route,
    "/client": client,
    "/send": send,
    "/waiting": waiting,
    "/alerts": alerts,
    "/search": search,
}

# ── parts of them ────────────────────────────────────────────────────────────────────────────────


def _page(title: str, *body: object) -> Page:
    return Page(title, tag("div", body, class_="page"))


def _sender(connection: Any, name: str) -> dict[str, list[Row]]:
    """What is told of a domain, route or client; a send may bear the same name."""
    return {title: rows for title, rows in explained(connection, name).items() if title in ("state", "story")}


def _tiles(connection: Any, clients: list[Row], waits: list[Row], open_alerts: list[Row]) -> Html:
    fresh = [row for row in clients if row["fresh"]]
    newest = queries.newest(connection)
    boxes, out = sum(row["mailboxes"] for row in clients), sum(row["out"] for row in clients)
    critical = sum(row["severity"] == "critical" for row in open_alerts)
    return tag(
        "div",
        _tile("Mails today", gauge(sum(r["used"] for r in fresh), sum(r["most"] for r in clients))),
        _tile("Waiting", sum(row["sends"] for row in waits), to="/waiting"),
        _tile("Mailboxes out", (out, tag("small", f" of {boxes:,}")), to=address("/mailboxes", state="unhealthy")),
        _tile("Alerts", (len(open_alerts), tag("small", f" · {critical} critical") if critical else ""), to="/alerts",
              kind="bad" if critical else ""),
        _tile("Outcome unknown", queries.unknown(connection)),
        _tile("Newest change", tag("span", _ago(newest), class_="ago")),
        class_="tiles",
    )  # fmt: skip


def _tile(label: str, value: object, to: str = "", kind: str = "") -> Html:
    inner = (tag("span", label, class_="label"), tag("strong", value))
    named = f"tile {kind}".strip()
    return tag("a", inner, href=to, class_=named) if to else tag("div", inner, class_=named)


def _ago(at: datetime | None) -> str:
    if at is None:
        return "nothing yet"
    seconds = max(0, int((datetime.now(UTC) - at).total_seconds()))
    for name, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {name}s ago"
    return f"{seconds} s ago"


def _stopped(connection: Any) -> Html | str:
    rows = queries.stops(connection)
    return section("Stopped by a person", table(rows, "")) if rows else ""


def _alerts(rows: list[Row]) -> Html:
    if not rows:
        return tag("p", "none is open", class_="none")
    return tag("ul", (tag("li", _alert(row), class_=row["severity"]) for row in rows), class_="alerts")


def _alert(row: Row) -> Iterable[object]:
    kind = {"critical": "bad", "warning": "watch"}.get(row["severity"], "")
    again = f", told {row['times']} times" if row["times"] > 1 else ""
    yield tag("div", badge(row["severity"], kind), tag("b", row["title"]))
    yield tag("p", row["detail"])
    yield tag("p", link(row["client"], "/client", name=row["client"]), " · since ", row["since"], again, " · ",
              link("what to do", "/runbook", name=row["runbook"]), class_="note")  # fmt: skip


def _clients(connection: Any, rows: list[Row]) -> Html:
    counted: dict[str, list[Row]] = {}
    for row in queries.by_state(connection):
        counted.setdefault(row["client"], []).append(row)
    shown = [
        {
            "client": link(row["client"], "/client", name=row["client"]),
            "day": tag("span", row["day"], class_="day"),
            "mails": gauge(row["used"], row["most"]),
            "wanted": row["wanted"],
            "mailboxes": tag("span", (_count(of) for of in counted.get(row["client"], [])), class_="badges"),
        }
        for row in rows
    ]
    return table(shown, "no client is declared yet: mailfleet apply FLEET.toml", cards=True)


def _count(row: Row) -> Html:
    kind = state(row["state"])
    where = address("/mailboxes", client=row["client"], state=row["state"])
    return tag("a", tag("b", row["mailboxes"]), " ", kind, href=where, class_="count")


def _waits(rows: list[Row]) -> Html:
    shown = [
        {
            "client": link(row["client"], "/client", name=row["client"]),
            "waits for": link(row["waits for"], "/waiting", client=row["client"], limit=row["waits for"]),
            "sends": row["sends"],
            "earliest": row["earliest"],
        }
        for row in rows
    ]
    return table(shown, "nothing waits")


def _choices(connection: Any, wanted: Asked) -> Iterable[Html]:
    yield link("all", "/mailboxes")
    for row in queries.by_state(connection):
        chosen = wanted["client"] == row["client"] and wanted["state"] == row["state"]
        where = address("/mailboxes", client=row["client"], state=row["state"])
        yield tag("a", f"{row['client']} ", state(row["state"]), f" {row['mailboxes']:,}", href=where,
                  aria_current="true" if chosen else None)  # fmt: skip


def _mailboxes(rows: list[Row]) -> Html:
    shown = [
        {
            "mailbox": link(row["mailbox"], "/mailbox", name=row["mailbox"]),
            "client": link(row["client"], "/client", name=row["client"]),
            "state": state(row["state"]),
            "latest day": gauge(row["used"] if row["fresh"] else 0, min(_caps(row))),
            "why": row["rule"] if row["state"] != "active" else "",
            "until": row["until"],
            "last mail": row["last_assigned_at"],
        }
        for row in rows
    ]
    return table(shown, "none")


def _caps(row: Row) -> list[int]:
    return [row["daily_quota"]] if row["cap"] is None else [row["daily_quota"], row["cap"]]


def _domain(row: Row, findings: list[Row], closed: list[Row]) -> Row:
    return {
        "domain": link(row["domain"], "/domain", client=row["client"], name=row["domain"]),
        "client": link(row["client"], "/client", name=row["client"]),
        "state": tag("span", state(row["state"]), " ", (_gate(gate) for gate in closed), class_="badges"),
        "DNS": dns_lights(findings),
        "mails": gauge(row["used"], row["most"]),
        "day": tag("span", row["day"], class_="day"),
        "mailboxes": tag("span", row["mailboxes"], tag("small", f" · {row['out']} out") if row["out"] else ""),
        "why": row["rule"] if row["state"] != "active" else "",
        "until": row["until"],
    }


def _gate(gate: Row) -> Html:
    return badge(f"closed over {gate['route']}" if gate["route"] else "closed", "bad")


def _of(row: Row, found: list[Row]) -> list[Row]:
    return [each for each in found if (each["client"], each["domain"]) == (row["client"], row["domain"])]


def _findings(rows: list[Row]) -> list[Row]:
    kinds = {"good": "good", "broken": "bad", "missing": "bad"}
    return [
        {
            "check": row["check"],
            "route": row["route"] or "the domain",
            "verdict": badge(row["verdict"].replace("_", " "), kinds.get(row["verdict"], "watch")),
            "what was seen": row["evidence"],
            "what to do": row["fix"],
            "looked at": row["looked_at"],
        }
        for row in sorted(rows, key=lambda row: WORST.index(row["verdict"]))
    ]


def _route(row: Row) -> Row:
    return {
        "route": link(f"{row['client']}/{row['route']}", "/route", client=row["client"], name=row["route"]),
        "provider": row["provider"],
        "account": row["account"],
        "state": badge("tripped", "bad") if row["out_until"] else state(row["state"]),
        "out until": row["out_until"],
        "why": row["out_rule"] if row["out_until"] else row["rule"] if row["state"] != "active" else "",
        "what was said": row["out_evidence"] if row["out_until"] else "",
        "failures in a row": row["failures"],
        "in 24 hours at most": row["ceiling_24h"] or "",
    }


def _linked(rows: list[Row]) -> list[Row]:
    """Rows whose sends and clients lead to their pages."""
    return [{key: _to(key, value, "") for key, value in row.items()} for row in rows]


def _to(what: str, name: Any, client: str) -> Any:
    if what in ("send", "refused request"):
        return link(name, "/send", name=name)
    if what in ("mailbox", "client"):
        return link(name, f"/{what}", name=name)
    if what == "domain":
        return link(name, "/domain", client=client, name=name)
    if what == "route":
        owner, _, route = str(name).partition("/")
        return link(name, "/route", client=owner, name=route)
    return name
