"""Every page and link over real HTTP and a real Postgres: nothing breaks, nothing gets through unescaped."""

import re
from html.parser import HTMLParser
from urllib.parse import urljoin

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ops.page.html import table, tag
from ops.page.html import text as said
from ops.page.server import HEADERS, shown
from ops.page.views import RUNBOOKS, VIEWS
from streams.settings import PageSettings
from tests.page.conftest import EVIL, served
from tests.page.fleet import NOW, Fleet

TAGS = set(
    """html head meta title link script noscript body header nav a form input button main h1 h2 div span strong small b
    section p ul ol li table thead tbody tr th td dl dt dd svg rect line text g figure figcaption footer time pre
    """.split()  # noqa: SIM905 - as a list it is a page long
)
ATTRIBUTES = set(
    """charset name content http-equiv rel href type src defer lang id class data-refresh data-label scope title action
    role value placeholder aria-label aria-current autocomplete autocapitalize spellcheck datetime viewbox width height
    x x1 x2 y y1 y2 dy preserveaspectratio
    """.split()  # noqa: SIM905 - the same
)
VOID = {"meta", "link", "input", "rect", "line"}


class Looked(HTMLParser):
    """What a browser would see: only elements and attributes of ours, each closed, links to our own pages alone."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS, tag
        for name, value in attrs:
            assert name in ATTRIBUTES, name
            if name in ("href", "src", "action"):
                assert value is not None
                assert value.startswith("/"), value
                assert not value.startswith("//")
                self.links.append(value)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in VOID
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def crawled(url: str, most: int = 600) -> dict[str, httpx.Response]:
    """Follow every link; of sends only the first dozen, which are all alike."""
    seen: dict[str, httpx.Response] = {}
    todo = ["/", *VIEWS]
    with httpx.Client(base_url=url, timeout=20) as client:
        while todo and len(seen) < most:
            path = todo.pop()
            if path in seen or (path.startswith("/send?") and sum(p.startswith("/send?") for p in seen) > 12):
                continue
            seen[path] = client.get(path)
            if seen[path].headers["content-type"].startswith("text/html"):
                todo += Looked(seen[path].text).links
    return seen


@pytest.fixture(scope="module")
def all_pages(page: str) -> dict[str, httpx.Response]:
    return crawled(page)


def test_every_link_of_every_page_leads_somewhere(all_pages: dict[str, httpx.Response]) -> None:
    bare = {"/mailbox", "/domain", "/route", "/client", "/send"}
    wrong = [path for path, got in all_pages.items() if got.status_code != (404 if path in bare else 200)]
    assert wrong == []
    assert len(all_pages) > 80


def test_hostile_names_and_texts_stay_text_on_every_page(hostile: str) -> None:
    with served(hostile) as url:
        pages = crawled(url)
    assert {got.status_code for got in pages.values()} <= {200, 404}
    assert sum(got.status_code == 200 for got in pages.values()) > 60
    assert sum("<xss onx=1>" in Looked(got.text).text for got in pages.values() if "html" in str(got.headers)) > 40


def test_what_is_sought_stands_in_the_box_as_text(page: str) -> None:
    assert "<xss onx=1>" in Looked(httpx.get(page + "/search", params={"q": EVIL}).text).text


def test_its_policy_lets_nothing_in_from_elsewhere(page: str) -> None:
    policy = dict(part.split(" ", 1) for part in httpx.get(page).headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'self'"
    assert set(policy.values()) == {"'self'", "'none'"}


def test_every_answer_has_the_strict_headers(all_pages: dict[str, httpx.Response], page: str) -> None:
    answers = [*all_pages.values(), httpx.post(page), httpx.get(page + "/nowhere")]
    for got in answers:
        assert {name: got.headers.get(name) for name in HEADERS} == HEADERS


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", ["/", "/mailboxes", "/search"])
def test_nothing_but_reading_is_answered(page: str, method: str, path: str) -> None:
    assert httpx.request(method, page + path).status_code == 405


HOSTS = [("localhost:8090", 200), ("127.0.0.1", 200), ("[::1]:8090", 200), ("fleet.agency.example", 200),
         ("evil.example", 421), ("127.0.0.1.evil.example:8090", 421), ("", 421)]  # fmt: skip


@pytest.mark.parametrize(("host", "status"), HOSTS)
def test_a_name_that_somebody_else_points_here_is_turned_away(usual: str, host: str, status: int) -> None:
    with served(usual, PageSettings(names=("fleet.agency.example",))) as url:
        assert httpx.get(url, headers={"Host": host}).status_code in ({status, 400} if host == "" else {status})


def test_the_day_is_told_as_it_stands(all_pages: dict[str, httpx.Response]) -> None:
    text = Looked(all_pages["/"].text).text
    for expected in ("of 1,080", "Waiting140", "2 · 1 critical", "acme/spring", "daily_quota", "by lena"):
        assert expected in text


def test_domains_show_what_the_dns_says_and_what_it_closed(page: str) -> None:
    text = Looked(httpx.get(page + "/domains").text).text
    for expected in ("✗ dkim", "✗ dmarc", "? mx", "✓ spf", "closed over own", "not looked at yet"):
        assert expected in text
    story = Looked(httpx.get(page + "/domain?client=acme&name=acme-mail.example").text).text
    assert "is closed: dkim is broken" in story
    assert "dkim.acme-mail.example: v=1" in story


def test_who_rests_and_who_waits_in_reserve_has_a_state_of_its_own(page: str) -> None:
    for state, expected in (("resting", 4), ("reserve", 4)):
        got = Looked(httpx.get(page + "/mailboxes", params={"state": state}).text)
        assert sum(link.startswith("/mailbox?") for link in got.links) == expected


def test_mails_and_bounces_by_day_are_plotted(page: str) -> None:
    for path in ("/", "/client?name=acme", "/domain?client=acme&name=acme-mail.example", "/route?client=acme&name=own"):
        text = httpx.get(page + path).text
        assert "Mails a day" in text
        assert re.search(r"<title>\d\d \w+: accepted [1-9]", text)
        assert re.search(r"<title>\d\d \w+: hard [1-9][\d.]* %", text)
    assert "Mailboxes not simply active" in httpx.get(page).text


def test_a_mailbox_tells_its_story_as_why_does(page: str, usual: str) -> None:
    got = httpx.get(page + "/mailboxes?state=unhealthy")
    links = [link for link in Looked(got.text).links if link.startswith("/mailbox?")]
    assert links
    text = Looked(httpx.get(urljoin(page, links[0])).text).text
    assert "is out of rotation: hard bounce rate. 4 of 118" in text
    assert "the mailbox is out of rotation since" in text


def test_a_send_is_found_by_its_id_and_tells_its_story(page: str) -> None:
    send_id = f"{NOW:%m%d}-0000"
    text = httpx.get(page + "/search", params={"q": send_id}).text
    (link,) = [link for link in Looked(text).links if link.startswith("/send?")]
    story = Looked(httpx.get(urljoin(page, link)).text).text
    assert "round robin: free the longest" in story
    assert "2.0.0" in story or "550" in story or "450" in story


@pytest.mark.parametrize("name", ["anna@acme-mail.example", "acme-news", "birch/own", "acme/w-", "acme/again"])
def test_whatever_has_a_name_is_found(page: str, name: str) -> None:
    found = [link for link in Looked(httpx.get(page + "/search", params={"q": name}).text).links if "?" in link]
    assert found


def test_a_runbook_is_shown_and_no_other_file(page: str) -> None:
    assert "# " in httpx.get(page + "/runbook?name=process_gone").text
    for name in ("../run", "/etc/passwd", "process_gone.md", "%2e%2e/views"):
        assert httpx.get(page + "/runbook", params={"name": name}).status_code == 404
    assert (RUNBOOKS / "process_gone.md").exists()


RAW = ["/search?q=%00%ff%fe", "/mailboxes?skip=-1", "/mailboxes?skip=9999999999999999999999", "/mailboxes?skip=²",
       "/send?name=%ed%a0%80", "/domain?name=&client=", "/search?q=" + "a" * 6000, "/mailbox?name=@", "/route?client=x",
       "/search?q=%", "/?x=%zz", "/send?name=a/b/c", "/client?name=%0d%0aSet-Cookie:x"]  # fmt: skip


@pytest.mark.parametrize("path", RAW)
def test_what_no_link_would_ask_is_answered_without_a_fault(page: str, path: str) -> None:
    assert httpx.get(page + path).status_code in (200, 404)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from([*VIEWS]),
    asked=st.dictionaries(
        st.sampled_from(["q", "name", "client", "domain", "state", "skip", "limit"]),
        st.one_of(
            st.text(st.characters(exclude_characters="\0"), max_size=30),
            st.text("<>\"'&/@%_\\;-", max_size=12),
            st.just(EVIL),
        ),
    ),
)
def test_whatever_is_asked_comes_back_as_text(usual: str, path: str, asked: dict[str, str]) -> None:
    answer = shown(usual, VIEWS[path], asked)
    assert answer.status in (200, 404)
    Looked(tag("html", tag("title", answer.title), answer.body))


@given(st.text(), st.text(alphabet="<>\"'&;x=", max_size=20))
def test_no_text_becomes_markup(anything: str, sharp: str) -> None:
    for value in (anything, sharp):
        whole = tag("p", value, title=value, href="/" if not value else None)
        assert whole.count("<") == 2
        assert Looked(str(table([{value: value, "b": said(value)}], "none"))).open == []


def test_the_numbers_of_the_fleet_are_those_of_its_facts() -> None:
    assert len(Fleet().mailboxes) == 48
