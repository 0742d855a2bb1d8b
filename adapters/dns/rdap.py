"""When a domain ends, from its registry by RDAP over HTTP (RFC 9082, RFC 9083); once a day is enough."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from adapters.dns.resolver import Unanswered
from schemas.dns import Finding

PUBLIC_RDAP = "https://rdap.org/domain/"
"""Forwards to the registry of the domain's ending (IANA's bootstrap list behind it)."""
OFF = "off"
ANSWER_S = 20.0
SOON = timedelta(days=30)
YOUNG = timedelta(days=30)
HELD = {
    "client hold": "the registrar has taken it out of the DNS",
    "server hold": "the registry has taken it out of the DNS",
    "redemption period": "it was deleted and can be bought back for a short time",
    "pending delete": "it is being deleted",
}


async def check_expiry(domain: str, base_url: str, now: datetime) -> Finding:
    """Ask the registry for the domain, or for the one above it that is registered. Raises Unanswered."""
    async with httpx.AsyncClient(timeout=ANSWER_S, follow_redirects=True) as client:
        labels = domain.split(".")
        for first in range(len(labels) - 1):
            name = ".".join(labels[first:])
            found = await _asked(client, base_url, name)
            if found is not None:
                return judged(name, found, now)
    raise Unanswered(f"{domain}: no registry knows it by RDAP")


async def _asked(client: httpx.AsyncClient, base_url: str, name: str) -> Mapping[str, Any] | None:
    """Return the registry's answer, None when it does not know the name: a sub-domain, or an ending without RDAP."""
    try:
        answer = await client.get(f"{base_url}{name}", headers={"Accept": "application/rdap+json"})
        if answer.status_code in (400, 404):
            return None
        answer.raise_for_status()
        found = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise Unanswered(f"{name}: RDAP gives no answer: {_why(error)}") from error
    if not isinstance(found, dict) or found.get("objectClassName") != "domain":
        raise Unanswered(f"{name}: RDAP's answer is about no domain")
    return found


def judged(name: str, found: Mapping[str, Any], now: datetime) -> Finding:
    """Return what a registry's answer means. Raises Unanswered when it does not say when the domain ends."""
    status = [str(word).lower() for word in _list(found.get("status"))]
    held = next((word for word in HELD if word in status), None)
    if held is not None:
        return Finding("expiry", "broken", f"{name} has status {held!r}: {HELD[held]}", f"ask the registrar of {name}")
    dates = {event.get("eventAction"): _date(event.get("eventDate")) for event in _list(found.get("events"))}
    ends, began = dates.get("expiration"), dates.get("registration")
    if ends is None:
        raise Unanswered(f"{name}: its registry does not say when it ends")
    said = f"{name} ends {ends:%Y-%m-%d}"
    if ends <= now:
        return Finding("expiry", "broken", f"{said}, which is past", f"renew {name} today")
    if ends - now < SOON:
        return Finding("expiry", "good", said, f"renew {name}: {(ends - now).days} days are left")
    if began is not None and now - began < YOUNG:
        young = f"{name} is {(now - began).days} days old: receivers trust young domains little"
        return Finding("expiry", "good", said, young)
    return Finding("expiry", "good", said)


def _why(error: Exception) -> str:
    """Return one short line; httpx's time-outs have no text."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _list(value: object) -> list[Any]:
    return [v for v in value if isinstance(v, dict | str)] if isinstance(value, list) else []


def _date(text: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
