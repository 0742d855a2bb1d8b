"""The pages of the unsubscribe link: plain HTML that works without scripts, says nothing of whom, and sets no cookie.

Opening a link changes nothing, because programs open links too; the button does (RFC 8058, by hand).
"""

import base64
import hashlib
import re
from email import message_from_bytes
from urllib.parse import parse_qsl

FIELD, VALUE = "List-Unsubscribe", "One-Click"
_STYLE = """
:root { color-scheme: light dark; }
body { margin: 0; padding: 1.5rem 1rem; font: 1.125rem/1.6 system-ui, sans-serif; }
main { max-width: 34rem; margin: 0 auto; }
h1 { font-size: 1.5rem; line-height: 1.3; margin: 0 0 1rem; }
button { font: inherit; font-weight: 600; min-height: 3rem; padding: .75rem 1.5rem; border: 0; border-radius: .5rem;
  color: #fff; background: #1d4ed8; cursor: pointer; }
button:focus-visible { outline: 3px solid #f59e0b; outline-offset: 3px; }
@media (max-width: 30rem) { button { width: 100%; } }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex, nofollow",
}
_TOKEN = re.compile(r"[a-z2-7]{39}", re.IGNORECASE)


def _page(title: str, body: str) -> str:
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n<h1>{title}</h1>\n{body}\n</main>\n</body>\n</html>\n"
    )


ASK = _page(
    "Unsubscribe?",
    "<p>Press the button, and this sender will not write to you any more.</p>\n"
    f'<form method="post">\n<input type="hidden" name="{FIELD}" value="{VALUE}">\n'
    '<button type="submit">Unsubscribe me</button>\n</form>\n'
    "<p>If you came here by mistake, close this page: nothing has changed.</p>",
)
DONE = _page(
    "You are unsubscribed",
    '<p role="status">This sender will not write to you any more. A mail that left just before may still arrive.</p>',
)
UNKNOWN = _page(
    "This link does not work",
    "<p>The link is not complete, or it is not one of ours. Please open it from the mail again, or answer that mail "
    "with the word “unsubscribe”.</p>",
)
LATER = _page(
    "Please try again",
    "<p>Your wish could not be stored just now. Please press the button again in a few minutes.</p>\n"
    f'<form method="post">\n<input type="hidden" name="{FIELD}" value="{VALUE}">\n'
    '<button type="submit">Unsubscribe me</button>\n</form>',
)


def token_of(path: str, query: str) -> str:
    """Return the token that a link carries: as the last part of its path, or as a value of its query. "" for none."""
    for word in (path.rstrip("/").rpartition("/")[2], *(value for _, value in _fields(query))):
        if _TOKEN.fullmatch(word):
            return word.lower()
    return ""


def asks_for_it(content_type: str, body: bytes) -> bool:
    """Whether a POST is the one-click of RFC 8058 section 3.1, or the page's button: form-urlencoded or multipart."""
    if content_type.partition(";")[0].strip().lower() == "multipart/form-data":
        return (FIELD, VALUE) in _parts(content_type, body)
    return (FIELD, VALUE) in _fields(body.decode("latin-1").strip())


def _fields(text: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(text, keep_blank_values=True, max_num_fields=50)
    except ValueError:
        return []


def _parts(content_type: str, body: bytes) -> list[tuple[str, str]]:
    head = "Content-Type: " + "".join(c for c in content_type if c.isprintable() and c.isascii()) + "\r\n\r\n"
    form = message_from_bytes(head.encode("ascii") + body)
    found = []
    for part in form.walk():
        name = part.get_param("name", header="content-disposition")
        value = part.get_payload(decode=True)
        if isinstance(name, str) and isinstance(value, bytes):
            found.append((name, value.decode("latin-1").strip()))
    return found
