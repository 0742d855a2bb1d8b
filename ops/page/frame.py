"""What stands around each page: head, navigation, search."""

from ops.page.html import Html, tag, text

PLACES = {
    "/": "Today",
    "/mailboxes": "Mailboxes",
    "/domains": "Domains",
    "/routes": "Routes",
    "/waiting": "Waiting",
    "/alerts": "Alerts",
}
REFRESH_S = 15


def framed(title: str, body: Html, path: str, sought: str = "") -> Html:
    """Return the whole document. Where there is no script, the browser itself loads it anew now and then."""
    slow = tag("noscript", tag("meta", http_equiv="refresh", content=str(4 * REFRESH_S)))
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{title} · mailfleet"),
        tag("link", rel="icon", href="/icon.svg", type="image/svg+xml"),
        tag("link", rel="stylesheet", href="/page.css"),
        tag("script", src="/page.js", defer=True),
        slow,
    )
    main = tag("main", tag("h1", title), body, id="main", data_refresh=str(REFRESH_S))
    foot = tag("footer", "times are UTC · only reads · ", tag("span", "reads anew by itself", id="fresh"))
    whole = tag("html", head, tag("body", _header(path, sought), main, foot), lang="en")
    return Html("<!doctype html>" + whole)


def _header(path: str, sought: str) -> Html:
    places = (
        tag("a", name, href=where, aria_current="page" if where == path else None) for where, name in PLACES.items()
    )
    box = tag("input", type="search", name="q", value=sought, placeholder="send, mailbox, domain, route",
              aria_label="Search", autocomplete="off", autocapitalize="off", spellcheck="false")  # fmt: skip
    form = tag("form", box, tag("button", "Search"), action="/search", role="search")
    return tag("header", tag("nav", places, aria_label=str(text("Pages"))), form)
