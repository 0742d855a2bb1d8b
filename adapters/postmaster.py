"""Gmail Postmaster Tools API v2: which share of a domain's mail Gmail's users called spam, by day. It only reads.

After Google's reference (developers.google.com/workspace/gmail/postmaster/reference/rest/v2, its discovery document)
and its OAuth 2.0 of service accounts and refresh tokens (developers.google.com/identity/protocols/oauth2), 2026-11.
"""

import base64
import json
import math
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from adapters.interface import without_addresses
from adapters.secrets import SecretMissing, Secrets

URL = "https://gmailpostmastertools.googleapis.com"
TOKEN_URL = "https://oauth2.googleapis.com/token"
SCOPE = "https://www.googleapis.com/auth/postmaster.traffic.readonly"
JWT_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
LOOPBACK = ("127.0.0.1", "::1", "localhost")
ANSWER_S = 30.0
MAX_ANSWER = 1024 * 1024
MOST_PAGES = 10
PAGE = 200
METRIC = "spam_rate"  # our own name of it in request and answer
_FAILURES = (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError)


class PostmasterSilent(Exception):
    """Google gives no rates; the text says why and what to do, without secrets and addresses.

    `of_domain`: it is this one domain's trouble, others may be asked. `retry_after_s` 0: not told.
    """

    def __init__(self, what: str, *, of_domain: bool = False, retry_after_s: int = 0) -> None:
        super().__init__(what)
        self.of_domain = of_domain
        self.retry_after_s = retry_after_s


class Postmaster:
    """One Google account that may see the domains. The secret is read anew for each token.

    The secret is the JSON file that Google gives for a service account, or one of type "authorized_user" with
    client_id, client_secret and refresh_token. `subject` in it names whom a service account speaks for.
    """

    def __init__(self, secrets: Secrets, secret_ref: str, url: str = URL) -> None:
        self._secrets = secrets
        self._ref = secret_ref
        self._url = _safe(url or URL, "POSTMASTER_URL").rstrip("/")
        self._client = httpx.AsyncClient(
            timeout=ANSWER_S, headers={"User-Agent": "mailfleet"}, trust_env=False, follow_redirects=False
        )
        self._token = ""
        self._token_until = datetime.min.replace(tzinfo=UTC)

    async def close(self) -> None:
        """Hang up."""
        await self._client.aclose()

    async def check(self) -> str:
        """Get a token; return a sentence. Raises PostmasterSilent."""
        self._token = ""
        await self._authorised()
        return f"Google takes {self._ref}"

    async def spam_rates(self, domain: str, since: date, until: date) -> dict[str, float]:
        """Return YYYY-MM-DD → share of 1 for the days that have data, both ends asked for. Raises PostmasterSilent."""
        asked: dict[str, Any] = {
            "metricDefinitions": [{"name": METRIC, "baseMetric": {"standardMetric": "SPAM_RATE"}}],
            "timeQuery": {"dateRanges": {"dateRanges": [{"start": _parts(since), "end": _parts(until)}]}},
            "aggregationGranularity": "DAILY",
            "pageSize": PAGE,
        }
        rates: dict[str, float] = {}
        for _ in range(MOST_PAGES):
            answer = await self._query(domain, asked)
            rates |= _rates(answer, since, until)
            page = answer.get("nextPageToken")
            if not isinstance(page, str) or not page:
                return rates
            asked["pageToken"] = page
        raise PostmasterSilent(f"{domain}: Google's answer has more than {MOST_PAGES} pages", of_domain=True)

    async def _query(self, domain: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        url = f"{self._url}/v2/domains/{quote(domain, safe='')}/domainStats:query"
        for last in (False, True):
            token = await self._authorised()
            code, answer, retry_after = await self._post(url, json=asked, headers={"Authorization": f"Bearer {token}"})
            if code == 401 and not last:
                self._token = ""  # it was taken back before its time
                continue
            if code == 200:
                return answer
            raise _refused(domain, code, answer, retry_after)
        raise AssertionError("unreachable")

    # ── OAuth 2.0 ────────────────────────────────────────────────────────────────────────────────

    async def _authorised(self) -> str:
        """Return an access token, a new one when the last ends within a minute. Raises PostmasterSilent."""
        now = datetime.now(UTC)
        if self._token and now < self._token_until - timedelta(minutes=1):
            return self._token
        url, form = self._grant(now)
        code, answer, retry_after = await self._post(url, data=form)
        token, lasts = answer.get("access_token"), answer.get("expires_in")
        if code != 200 or not isinstance(token, str) or not token:
            said = without_addresses(f"{answer.get('error', '')} {answer.get('error_description', '')}".strip())
            what = (
                f"Google gives no token for {self._ref} ({code} {said}): is the key still valid, the account enabled?"
            )
            raise PostmasterSilent(what, retry_after_s=retry_after)
        self._token = token
        self._token_until = now + timedelta(seconds=lasts if isinstance(lasts, int) else 600)
        return token

    def _grant(self, now: datetime) -> tuple[str, dict[str, str]]:
        """Return where to ask for a token, and the form. Raises PostmasterSilent."""
        held = self._held()
        url = _safe(held.get("token_uri") or TOKEN_URL, f"token_uri of {self._ref}")
        match held:
            case {"type": "service_account", "client_email": str(), "private_key": str()}:
                return url, {"grant_type": JWT_GRANT, "assertion": self._assertion(held, url, now)}
            case {"type": "authorized_user", "client_id": str(who), "client_secret": str(by), "refresh_token": str(it)}:
                form = {"grant_type": "refresh_token", "client_id": who, "client_secret": by, "refresh_token": it}
                return url, form
        raise PostmasterSilent(
            f"{self._ref} is neither a service account's JSON (client_email, private_key) nor an authorized_user's "
            "(client_id, client_secret, refresh_token)"
        )

    def _held(self) -> dict[str, Any]:
        try:
            held = json.loads(self._secrets.resolve(self._ref))
        except SecretMissing as error:
            raise PostmasterSilent(str(error)) from None
        except ValueError:
            held = None  # the error would show the secret
        if not isinstance(held, dict):
            raise PostmasterSilent(f"{self._ref} is no JSON object: put Google's key file there as it is")
        return held

    def _assertion(self, held: Mapping[str, Any], url: str, now: datetime) -> str:
        """Return the signed claim (RFC 7523) of a service account."""
        begins = int(now.timestamp())
        claim = {"iss": held["client_email"], "scope": SCOPE, "aud": url, "iat": begins, "exp": begins + 3600}
        if held.get("subject"):
            claim["sub"] = held["subject"]
        head = {"alg": "RS256", "typ": "JWT", "kid": held.get("private_key_id", "")}
        signed = f"{_base64(json.dumps(head).encode())}.{_base64(json.dumps(claim).encode())}"
        try:
            key = serialization.load_pem_private_key(held["private_key"].encode(), None)
        except (ValueError, TypeError):
            key = None
        if not isinstance(key, rsa.RSAPrivateKey):
            raise PostmasterSilent(f"{self._ref}: private_key is no RSA key in PEM")
        return f"{signed}.{_base64(key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"

    async def _post(self, url: str, **what: Any) -> tuple[int, dict[str, Any], int]:
        """Return status, JSON object ({} for anything else) and the seconds to wait. Raises PostmasterSilent."""
        try:
            async with self._client.stream("POST", url, **what) as response:
                raw = b""
                async for chunk in response.aiter_bytes():
                    raw += chunk
                    if len(raw) > MAX_ANSWER:
                        raise PostmasterSilent("Google's answer is too long to be one")
        except _FAILURES as error:
            raise PostmasterSilent(f"Google cannot be reached: {type(error).__name__} {error}"[:300]) from None
        asked = response.headers.get("Retry-After", "")
        try:
            answer = json.loads(raw)
        except ValueError:
            answer = None
        retry_after = int(asked[:6]) if asked.isascii() and asked.isdecimal() else 0
        return response.status_code, answer if isinstance(answer, dict) else {}, retry_after


def _safe(url: str, what: str) -> str:
    """Return the address if a secret may go there. Raises PostmasterSilent."""
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        raise PostmasterSilent(f"{what} is no address") from None
    if parsed.scheme == "https" or (parsed.scheme == "http" and parsed.host in LOOPBACK):
        return url
    raise PostmasterSilent(f"{what} must be https: a token goes there")


def _refused(domain: str, code: int, answer: Mapping[str, Any], retry_after: int) -> PostmasterSilent:
    error = answer.get("error")
    told = error if isinstance(error, dict) else {}
    said = without_addresses(f"{code} {told.get('status', '')} {told.get('message', '')}".strip())
    if code == 404 or (code == 403 and not _is_of_account(said)):
        advice = "verify it in Postmaster Tools and let the account of POSTMASTER_CREDENTIALS read it"
        return PostmasterSilent(f"{domain}: {said}: {advice}", of_domain=True)
    return PostmasterSilent(f"{domain}: {said}", of_domain=code == 400, retry_after_s=retry_after)


def _is_of_account(said: str) -> bool:
    """Whether a 403 holds for every domain: a scope that is missing, an API that is not enabled, a quota used up."""
    words = ("scope", "has not been used", "is disabled", "SERVICE_DISABLED", "rate limit", "quota")
    return any(word.lower() in said.lower() for word in words)


def _rates(answer: Mapping[str, Any], since: date, until: date) -> dict[str, float]:
    """Return the days that have a value; one without has no data, whatever the API's zero looks like elsewhere."""
    stats = answer.get("domainStats")
    found: dict[str, float] = {}
    for stat in stats if isinstance(stats, list) else ():
        if not isinstance(stat, dict) or stat.get("metric") != METRIC:
            continue
        day, rate = _day(stat.get("date")), _number(stat.get("value"))
        if day is not None and rate is not None and since <= day <= until:
            found[day.isoformat()] = rate
    return found


def _number(value: object) -> float | None:
    """Read a StatisticValue: one of its fields is set, and is a share of 1."""
    if not isinstance(value, dict):
        return None
    number = next((value[name] for name in ("floatValue", "doubleValue") if name in value), value.get("intValue"))
    try:
        rate = float(number) if isinstance(number, int | float | str) and not isinstance(number, bool) else math.nan
    except ValueError:
        return None
    return rate if 0 <= rate <= 1 else None


def _day(told: object) -> date | None:
    try:
        return date(told["year"], told["month"], told["day"]) if isinstance(told, dict) else None
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _parts(day: date) -> dict[str, int]:
    return {"year": day.year, "month": day.month, "day": day.day}


def _base64(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
