"""The page in a real browser: it fits a desk and a phone, obeys its own policy, and reads anew without a jump."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from ops.page.views import VIEWS
from tests.page.chromium import chromium
from tests.page.conftest import served

LISTS = [path for path in VIEWS if path not in ("/mailbox", "/domain", "/route", "/client", "/send", "/search")]
STORIES = [
    "/send?name=acme/told",
    "/mailbox?name=anna@acme-mail.example",
    "/domain?client=acme&name=acme-mail.example",
    "/route?client=acme&name=own",
    "/client?name=acme",
    "/search?q=anna",
    "/runbook?name=route_tripped",
]
TOO_WIDE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
SMALL = """Math.min(...[...document.querySelectorAll("figure text")].map(t => t.getBoundingClientRect().height))"""


pytestmark = pytest.mark.usefixtures("browser")


@pytest.fixture(scope="session")
def browser(needs: Callable[[str, str], None]) -> None:
    needs("chromium", "chromium")


async def test_every_page_fits_a_desk_and_a_phone_in_light_and_dark(page: str, tmp_path: Path) -> None:
    pictures = os.environ.get("MAILFLEET_PICTURES")
    async with chromium(tmp_path) as tab:
        for number, path in enumerate([*LISTS, *STORIES]):
            for width in (1280, 390):
                dark = (number + (width > 600)) % 2 == 1
                await tab.open(page + path, width, dark)
                assert await tab.value(TOO_WIDE) <= 0, (path, width)
                assert await tab.value("document.querySelectorAll('figure text').length ? " + SMALL + " : 99") > 9
                if pictures:
                    name = re.sub(r"\W+", "-", path).strip("-")[:40] or "today"
                    await tab.picture(Path(pictures) / f"{name}-{width}.png")
        assert tab.said == []
        assert {url.split("/")[2] for url in tab.asked} == {page.split("/")[2]}


async def test_it_reads_anew_in_place_and_the_scroll_stays(page: str, tmp_path: Path) -> None:
    async with chromium(tmp_path) as tab:
        await tab.open(page + "/mailboxes", 390)
        await tab.value("document.querySelector('tbody').remove(); scrollTo(0, 300); refresh()")
        assert await tab.value("document.querySelectorAll('tbody tr').length") == 48
        assert await tab.value("document.getElementById('fresh').textContent.startsWith('read at')")
        await tab.value("scrollTo(0, 300); refresh()")
        assert await tab.value("scrollY") == 300


async def test_a_hostile_name_runs_nothing_and_bursts_nothing(hostile: str, tmp_path: Path) -> None:
    async with chromium(tmp_path) as tab:
        with served(hostile) as url:
            for path in LISTS:
                await tab.open(url + path, 390)
                assert await tab.value(TOO_WIDE) <= 0, path
                assert await tab.value("document.querySelectorAll('xss, main script').length") == 0
        assert tab.said == []


async def test_when_the_page_is_gone_it_says_so_and_keeps_what_it_showed(usual: str, tmp_path: Path) -> None:
    async with chromium(tmp_path) as tab:
        with served(usual) as url:
            await tab.open(url, 1280)
        await tab.value("refresh()")
        assert await tab.value("document.getElementById('fresh').className") == "bad"
        assert await tab.value("document.querySelectorAll('.tile').length") == 6
