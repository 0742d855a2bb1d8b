"""Google's token endpoint and Postmaster Tools API v2 on real sockets, with domains, days, and faults by script.

Written to the v2 reference and discovery document (developers.google.com/workspace/gmail/postmaster/reference/rest/v2),
RFC 7523 and RFC 6749 as Google describes them (developers.google.com/identity/protocols/oauth2), errors as its API
guide shows them (google.rpc.Status); read 2026-11.
"""

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from aiohttp import web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

SCOPE = "https://www.googleapis.com/auth/postmaster.traffic.readonly"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PEM = KEY.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
).decode()
WHO = "fleet@project.iam.gserviceaccount.com"
REFRESH = {"client_id": "id.apps.googleusercontent.com", "client_secret": "GOCSPX-x", "refresh_token": "1//refresh"}


@dataclass
class Google:
    """`domains` is what the account may read: domain → day → rate, None for a day whose value is not told."""

    domains: dict[str, dict[date, float | None]] = field(default_factory=dict)
    page: int = 200
    tokens: int = 0  # given so far; the last is the one that counts
    asked: list[str] = field(default_factory=list)
    answers: list[tuple[int, Any, dict[str, str]]] = field(default_factory=list)  # instead of its own, one each
    url: str = ""

    def service_account(self, **changes: str) -> str:
        """Return the key file of a service account."""
        held = {"type": "service_account", "client_email": WHO, "private_key_id": "k1", "private_key": PEM}
        return json.dumps({**held, "token_uri": f"{self.url}/token", **changes})

    def authorized_user(self, **changes: str) -> str:
        """Return the file of a person that agreed."""
        return json.dumps({"type": "authorized_user", **REFRESH, "token_uri": f"{self.url}/token", **changes})

    async def token(self, request: web.Request) -> web.Response:
        """POST /token."""
        form = await request.post()
        grant = form.get("grant_type")
        good = (
            self._is_signed(str(form.get("assertion", "")))
            if grant == "urn:ietf:params:oauth:grant-type:jwt-bearer"
            else grant == "refresh_token" and all(form.get(name) == value for name, value in REFRESH.items())
        )
        if not good:
            said = {"error": "invalid_grant", "error_description": f"Invalid JWT Signature for {WHO}."}
            return web.json_response(said, status=400)
        self.tokens += 1
        return web.json_response(
            {"access_token": f"ya29.{self.tokens}", "expires_in": 3599, "token_type": "Bearer", "scope": SCOPE}
        )

    def _is_signed(self, assertion: str) -> bool:
        head, claim, signature = [*assertion.split("."), "", ""][:3]
        try:
            KEY.public_key().verify(_plain(signature), f"{head}.{claim}".encode(), padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            return False
        said = json.loads(_plain(claim))
        lasts = said["exp"] - said["iat"]
        return (said["iss"], said["scope"], said["aud"], lasts) == (WHO, SCOPE, f"{self.url}/token", 3600)

    async def query(self, request: web.Request) -> web.Response:
        """POST /v2/domains/{domain}/domainStats:query."""
        domain = request.match_info["domain"]
        self.asked.append(domain)
        if self.answers:
            status, body, headers = self.answers.pop(0)
            return web.Response(
                status=status, text=body if isinstance(body, str) else json.dumps(body), headers=headers
            )
        if request.headers.get("Authorization") != f"Bearer ya29.{self.tokens}":
            return error(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
        if domain not in self.domains:
            return error(403, "PERMISSION_DENIED", f"The caller does not have permission to {domain}, {WHO}")
        body = await request.json()
        (metric,), (span,) = body["metricDefinitions"], body["timeQuery"]["dateRanges"]["dateRanges"]
        if metric["baseMetric"] != {"standardMetric": "SPAM_RATE"} or body.get("aggregationGranularity") != "DAILY":
            return error(400, "INVALID_ARGUMENT", "Request contains an invalid argument.")
        first, last = (date(**span[end]) for end in ("start", "end"))
        days = [day for day in sorted(self.domains[domain]) if first <= day <= last]
        begin, size = int(body.get("pageToken", "0")), min(self.page, body["pageSize"])
        stats = [self._stat(domain, day, metric["name"]) for day in days[begin : begin + size]]
        more = {"nextPageToken": str(begin + size)} if begin + size < len(days) else {}
        return web.json_response({**({"domainStats": stats} if stats else {}), **more})

    def _stat(self, domain: str, day: date, name: str) -> dict[str, Any]:
        rate = self.domains[domain][day]
        told = {"name": f"domains/{domain}/domainStats/{day:%Y%m%d}-x", "metric": name, "date": _parts(day)}
        return told if rate is None else {**told, "value": {"floatValue": rate}}


def error(status: int, name: str, message: str) -> web.Response:
    """An error as Google's APIs write it."""
    return web.json_response({"error": {"code": status, "message": message, "status": name}}, status=status)


def _parts(day: date) -> dict[str, int]:
    return {"year": day.year, "month": day.month, "day": day.day}


def _plain(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@asynccontextmanager
async def running(google: Google) -> AsyncIterator[Google]:
    """Serve it on loopback."""
    app = web.Application()
    app.router.add_post("/token", google.token)
    app.router.add_post("/v2/domains/{domain}/domainStats:query", google.query)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    google.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield google
    finally:
        await runner.cleanup()
