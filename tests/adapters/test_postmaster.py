"""Gmail's spam rates as Google's API tells them: a day without data is missing, a secret is never said."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from adapters.postmaster import MAX_ANSWER, Postmaster, PostmasterSilent
from adapters.secrets import Secrets
from tests.adapters.google_server import PEM, REFRESH, WHO, Google, running

SINCE, UNTIL = date(2026, 2, 24), date(2026, 3, 5)
DAYS = {date(2026, 3, 1): 0.0, date(2026, 3, 2): 0.0013, date(2026, 3, 3): None, date(2026, 3, 4): 1e-05}
TOLD = {"2026-03-01": 0.0, "2026-03-02": 0.0013, "2026-03-04": 1e-05}


def secrets(folder: Path, text: str) -> Secrets:
    """A folder with the secret."""
    path = folder / "google.json"
    path.write_text(text)
    path.chmod(0o600)
    return Secrets(folder)


@asynccontextmanager
async def asking(
    google: Google, folder: Path, held: str = "", ref: str = "file:google.json"
) -> AsyncIterator[Postmaster]:
    """An account that asks this server; a service account when nothing else is said."""
    made = Postmaster(secrets(folder, held or google.service_account()), ref, google.url)
    try:
        yield made
    finally:
        await made.close()


@pytest.fixture
async def google() -> AsyncIterator[Google]:
    """A server that knows one domain."""
    async with running(Google({"acme-mail.com": dict(DAYS)})) as made:
        yield made


async def refusal(google: Google, folder: Path, held: str = "", domain: str = "acme-mail.com") -> PostmasterSilent:
    """Why Google gives no rates; the text has neither the key nor a token nor an address."""
    async with asking(google, folder, held) as postmaster:
        with pytest.raises(PostmasterSilent) as silent:
            await postmaster.spam_rates(domain, SINCE, UNTIL)
    said = str(silent.value)
    assert not any(word in said for word in (WHO, PEM[40:80], "ya29", *REFRESH.values()))
    return silent.value


async def test_a_service_account_reads_the_days_that_have_data(google: Google, tmp_path: Path) -> None:
    async with asking(google, tmp_path) as postmaster:
        assert await postmaster.spam_rates("acme-mail.com", SINCE, UNTIL) == TOLD
        assert await postmaster.spam_rates("acme-mail.com", SINCE, date(2026, 3, 1)) == {"2026-03-01": 0.0}
    assert google.tokens == 1, "a token is used as long as it lasts"


async def test_a_refresh_token_does_as_well(google: Google, tmp_path: Path) -> None:
    async with asking(google, tmp_path, google.authorized_user()) as postmaster:
        assert await postmaster.spam_rates("acme-mail.com", SINCE, UNTIL) == TOLD
        assert "file:google.json" in await postmaster.check()


async def test_no_data_at_all_is_no_rate(google: Google, tmp_path: Path) -> None:
    google.domains["acme-mail.com"] = {}
    async with asking(google, tmp_path) as postmaster:
        assert await postmaster.spam_rates("acme-mail.com", SINCE, UNTIL) == {}


async def test_every_page_is_read(google: Google, tmp_path: Path) -> None:
    google.page = 1
    async with asking(google, tmp_path) as postmaster:
        assert await postmaster.spam_rates("acme-mail.com", SINCE, UNTIL) == TOLD


async def test_a_token_that_was_taken_back_is_replaced_once(google: Google, tmp_path: Path) -> None:
    async with asking(google, tmp_path) as postmaster:
        await postmaster.spam_rates("acme-mail.com", SINCE, UNTIL)
        google.tokens += 1  # what was given before is nothing worth any more
        assert await postmaster.spam_rates("acme-mail.com", SINCE, UNTIL) == TOLD
        google.answers = [(401, {}, {})] * 2
        with pytest.raises(PostmasterSilent, match="401"):
            await postmaster.spam_rates("acme-mail.com", SINCE, UNTIL)


async def test_a_domain_that_the_account_may_not_see_is_its_own_trouble(google: Google, tmp_path: Path) -> None:
    silent = await refusal(google, tmp_path, domain="other.example")
    assert silent.of_domain
    assert "verify it in Postmaster Tools" in str(silent)


SCOPE = {"code": 403, "message": "Request had insufficient authentication scopes.", "status": "PERMISSION_DENIED"}
DISABLED = {
    "code": 403,
    "message": "Gmail Postmaster Tools API has not been used in project 1 before or it is disabled.",
}


@pytest.mark.parametrize(
    ("answer", "says", "retry_after_s"),
    [
        ((403, {"error": SCOPE}, {}), "insufficient authentication scopes", 0),
        ((403, {"error": DISABLED}, {}), "it is disabled", 0),
        ((429, {"error": {"code": 429, "message": "Quota exceeded"}}, {"Retry-After": "120"}), "Quota exceeded", 120),
        ((429, "", {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}), "429", 0),
        ((503, "<html>later</html>", {}), "503", 0),
        ((200, " " * (MAX_ANSWER + 1), {}), "too long", 0),
        ((302, "", {"Location": "http://127.0.0.1:1/"}), "302", 0),
    ],
)
async def test_what_holds_for_all_domains_is_told_as_such(
    google: Google, tmp_path: Path, answer: tuple[int, Any, dict[str, str]], says: str, retry_after_s: int
) -> None:
    google.answers = [answer]
    silent = await refusal(google, tmp_path)
    assert says in str(silent)
    assert (silent.of_domain, silent.retry_after_s) == (False, retry_after_s)


@pytest.mark.parametrize(
    "value",
    [
        {},
        None,
        {"floatValue": "NaN"},
        {"floatValue": -0.1},
        {"floatValue": 7},
        {"stringValue": "x"},
        {"intValue": "x"},
        [],
    ],
)
async def test_a_value_that_is_no_share_is_no_data(google: Google, tmp_path: Path, value: object) -> None:
    day = {"year": 2026, "month": 3, "day": 2}
    good = {"metric": "spam_rate", "date": day, "value": {"doubleValue": 0.5}}
    stats = [{"metric": "spam_rate", "date": day, "value": value}, {"date": day, "value": {"floatValue": 1}}, 7]
    odd = [{**good, "date": {"year": 2026, "month": 0, "day": 0}}, {**good, "date": None}]
    google.answers = [(200, {"domainStats": [*stats, *odd]}, {}), (200, {"domainStats": [good]}, {})]
    async with asking(google, tmp_path) as postmaster:
        assert await postmaster.spam_rates("acme-mail.com", SINCE, UNTIL) == {}
        assert await postmaster.spam_rates("acme-mail.com", SINCE, UNTIL) == {"2026-03-02": 0.5}


@pytest.mark.parametrize(
    ("held", "says"),
    [
        ("{", "no JSON object"),
        ("[]", "no JSON object"),
        ('{"type": "service_account"}', "neither a service account's JSON"),
        ('{"type": "authorized_user", "client_id": "x"}', "neither a service account's JSON"),
        ("service:private_key=nothing", "no RSA key"),
        ("service:token_uri=http://elsewhere.example/token", "must be https"),
        ("service:client_email=other@project.iam.gserviceaccount.com", "invalid_grant"),
        ("user:refresh_token=1//old", "invalid_grant"),
    ],
)
async def test_a_wrong_secret_says_what_is_wrong(google: Google, tmp_path: Path, held: str, says: str) -> None:
    kind, _, change = held.partition(":")
    name, _, value = change.partition("=")
    if kind in ("service", "user"):
        held = (google.service_account if kind == "service" else google.authorized_user)(**{name: value})
    silent = await refusal(google, tmp_path, held)
    assert says in str(silent)
    assert not silent.of_domain
    assert google.asked == []


async def test_nobody_there_and_an_unsafe_address_are_named(google: Google, tmp_path: Path) -> None:
    made = Postmaster(secrets(tmp_path, google.service_account()), "file:google.json", "http://127.0.0.1:1")
    with pytest.raises(PostmasterSilent, match="cannot be reached"):
        await made.spam_rates("acme-mail.com", SINCE, UNTIL)
    await made.close()
    with pytest.raises(PostmasterSilent, match="POSTMASTER_URL must be https"):
        Postmaster(Secrets(tmp_path), "file:google.json", "http://google.example")
    with pytest.raises(PostmasterSilent, match="cannot be read"):
        await Postmaster(Secrets(tmp_path), "file:none", google.url).check()
