"""A Metabase over its HTTP API (v0.56): signing in, and asking it for things.

Paths, bodies and answers are those of metabase/metabase, src/metabase/*_rest (read 2026-11). Bodies are closed
there: a key that it does not know is refused with 400.
"""

from collections.abc import Mapping
from typing import Any

import httpx

SITE = "mailfleet"
ANSWER_S = 60.0  # adding a database connects to it first


class MetabaseRefused(Exception):
    """Metabase said no or cannot be reached; the text says to what, and what to do. Never a secret."""


class Metabase:
    """A signed-in Metabase. JSON in, JSON out; every call raises MetabaseRefused."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url.rstrip("/"), timeout=ANSWER_S)
        self.url = url
        self.changes = 0  # calls that may have changed something

    def __enter__(self) -> "Metabase":
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def use_key(self, key: str) -> None:
        """Sign in with an API key (Admin settings, Authentication, API keys; group Administrators)."""
        self._http.headers["x-api-key"] = key

    def use_login(self, email: str, password: str) -> None:
        """Sign in with an administrator's login; a Metabase that has nobody yet makes it its first."""
        known = self.get("/api/session/properties")
        if not known.get("has-user-setup", True):
            user = {"email": email, "password": password}
            prefs = {"site_name": SITE, "allow_tracking": False}
            made = self.post("/api/setup", {"token": known["setup-token"], "user": user, "prefs": prefs})
        else:
            made = self.post("/api/session", {"username": email, "password": password})
        self._http.headers["x-metabase-session"] = made["id"]

    def get(self, path: str, **query: str) -> Any:
        """Ask."""
        return self._call("GET", path, params=query)

    def post(self, path: str, body: Mapping[str, object] | None = None) -> Any:
        """Make."""
        return self._call("POST", path, json=body or {})

    def put(self, path: str, body: Mapping[str, object]) -> Any:
        """Change."""
        return self._call("PUT", path, json=body)

    def _call(self, method: str, path: str, **sent: Any) -> Any:
        self.changes += method != "GET"
        try:
            answer = self._http.request(method, path, **sent)
        except httpx.HTTPError as error:
            raise MetabaseRefused(f"Metabase at {self.url} cannot be reached: {error}; is --url right?") from error
        if answer.status_code in (401, 403):
            raise MetabaseRefused(f"{method} {path}: {answer.status_code}: the key or login is not an administrator's")
        if not answer.is_success:
            raise MetabaseRefused(f"{method} {path}: {answer.status_code} {_said(answer)}")
        return answer.json() if answer.content else None


def _said(answer: httpx.Response) -> str:
    """What Metabase says of a refusal: its message and errors, not what it was sent."""
    try:
        body = answer.json()
    except ValueError:
        return answer.text[:200]
    if not isinstance(body, dict):
        return str(body)[:200]
    return "; ".join(str(body[key]) for key in ("message", "errors", "specific-errors") if body.get(key))[:400]
