"""Takes a raw message apart in bounded time and memory, however broken it is; nothing here raises.

The standard library's parser recurses, and is quadratic on some inputs; a report needs little of MIME.
"""

import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

MAX_BYTES = 262_144
"""A report says what it says at its start; what follows is the returned original."""
MAX_PARTS = 64
MAX_DEPTH = 8
MAX_HEADERS = 400

_FIELD = re.compile(r"^([!-9;-~]{1,80})[ \t]*:[ \t]*(.*)$", re.DOTALL)
_BOUNDARY = re.compile(r'boundary[ \t]*=[ \t]*(?:"([^"\n]{1,200})"|([^\s;"]{1,200}))', re.IGNORECASE)
_CHARSET = re.compile(r'charset[ \t]*=[ \t]*"?([\w.:-]{1,40})', re.IGNORECASE)
_WORD = re.compile(r"=\?([\w.-]{1,40})(?:\*[\w-]{1,20})?\?([bq])\?([^? ]{0,400})\?=", re.IGNORECASE)
_CHARSETS = re.compile(
    r"us-ascii|utf-?(7|8|16|16le|16be)|iso-?(8859|2022)-\w{1,6}|windows-\d{3,4}|cp\d{3,4}|koi8-[ru]|euc-(jp|kr)"
    r"|shift[_-]jis|sjis|gb2312|gbk|gb18030|big5|ks_c_5601-1987",
    re.IGNORECASE,
)
"""Charsets that may name a codec: Python has others that are slow, or are no charsets at all."""
_TAG = re.compile(r"<(?:/?[a-z!][^<>]{0,2000})>", re.IGNORECASE)
_BREAKING = re.compile(r"<(?:br|p|div|tr|li|h\d|/p|/div|/tr|/td)\b[^<>]{0,500}>", re.IGNORECASE)
_ENTITIES = (
    ("&lt;", "<"),
    ("&gt;", ">"),
    ("&nbsp;", " "),
    ("&#39;", "'"),
    ("&quot;", '"'),
    ("&#64;", "@"),
    ("&amp;", "&"),
)

Headers = dict[str, list[str]]


@dataclass(frozen=True)
class Part:
    """A leaf of the message; the text of an embedded message is its source."""

    content_type: str
    text: str


@dataclass(frozen=True)
class Letter:
    """A message: its headers (names in lower case, values unfolded) and its leaves in order."""

    headers: Headers
    content_type: str  # with parameters
    parts: tuple[Part, ...]

    def header(self, name: str) -> str:
        """Return the first header of this name, encoded words decoded, or ""."""
        values = self.headers.get(name)
        return decoded_words(values[0]) if values else ""


def read(raw: bytes) -> Letter:
    """Return the message taken apart; only the first MAX_BYTES are looked at."""
    source = raw[:MAX_BYTES].replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\0", b"")
    if source.startswith((b"From ", b">From ")):
        source = source.partition(b"\n")[2]
    head, body = _halves(source.lstrip(b"\n"))
    headers = headers_of(decoded(head, "utf-8"))
    return Letter(headers, _first(headers, "content-type"), tuple(_part(*leaf) for leaf in _leaves(headers, body)))


def attachments(raw: bytes, most: int) -> list[tuple[str, bytes]]:
    """Return (content type with its parameters and disposition, octets) of each leaf of the first `most` octets."""
    source = raw[:most].replace(b"\r\n", b"\n")
    head, body = _halves(source.lstrip(b"\n"))
    leaves = _leaves(headers_of(decoded(head, "utf-8")), body)
    named = ((f"{_first(of, 'content-type')} {_first(of, 'content-disposition')}", octets) for of, octets in leaves)
    return [(name, octets) for name, octets in named if not name.lower().startswith("multipart/")]


def headers_of(head: str) -> Headers:
    """Return a block of header lines by name; lines that are none are dropped."""
    found: Headers = {}
    last = ""
    for line in re.split(r"\n(?![ \t])", head, maxsplit=MAX_HEADERS)[:MAX_HEADERS]:
        field = _FIELD.match(line)
        if field is not None:
            last = field[1].lower()
            found.setdefault(last, []).append(" ".join(field[2][:4_000].split()))
        elif last and len(line) < 200 and "=" in line:  # a parameter that lost its indentation
            found[last][-1] += f" {line.strip()}"
    return found


def decoded(octets: bytes, charset: str) -> str:
    """Return octets as text, whatever they are."""
    if not octets.isascii() or "2022" in charset or charset.endswith("utf-7"):
        name = charset.lower().removeprefix("unicode-1-1-")
        for codec in (name, "utf-8") if _CHARSETS.fullmatch(name) else ("utf-8",):
            try:
                return octets.decode(codec, "strict" if codec == "utf-8" else "replace")
            except (UnicodeError, LookupError):
                continue
        return octets.decode("latin-1")
    return octets.decode("ascii")


def decoded_words(value: str) -> str:
    """Return a header's value with its encoded words (RFC 2047) decoded."""
    return _WORD.sub(_word, value) if "=?" in value else value


def text_of_html(source: str) -> str:
    """Return what a reader of the page would see, roughly, line by line."""
    for name in ("style", "script"):
        source = _without(source, name)
    text = _TAG.sub("", _BREAKING.sub("\n", source))
    for entity, sign in _ENTITIES:
        text = text.replace(entity, sign)
    return text


def _without(source: str, name: str) -> str:
    """Return a page without the elements of this name; one that does not end stays."""
    lower = source.lower()
    kept = []
    end = 0
    while (start := lower.find(f"<{name}", end)) >= 0 and (close := lower.find(f"</{name}", start)) >= 0:
        kept.append(source[end:start])
        end = close + len(name) + 2
    return "".join((*kept, source[end:])) if len(lower) == len(source) else source


def _word(found: re.Match[str]) -> str:
    octets = found[3].encode("utf-8", "replace")
    plain = _base64(octets) if found[2] in "bB" else binascii.a2b_qp(octets.replace(b"_", b" "))
    return decoded(plain, found[1])


def _first(headers: Headers, name: str) -> str:
    return headers[name][0] if headers.get(name) else ""


def _halves(source: bytes) -> tuple[bytes, bytes]:
    if source.startswith(b"\n"):
        return b"", source[1:]
    head, _, body = source.partition(b"\n\n")
    return head, body


def _leaves(headers: Headers, body: bytes) -> Iterator[tuple[Headers, bytes]]:
    """Yield (headers, octets) of the first MAX_PARTS parts that hold no others, as they are nested."""
    return islice(_below(headers, body, 0), MAX_PARTS)


def _below(headers: Headers, body: bytes, depth: int) -> Iterator[tuple[Headers, bytes]]:
    declared = _first(headers, "content-type")
    nested = declared.lower().startswith("multipart/") and depth < MAX_DEPTH
    pieces = _pieces(body, _boundary(declared, body)) if nested else []
    for piece in pieces:
        head, rest = _halves(piece)
        yield from _below(headers_of(decoded(head, "utf-8")), rest, depth + 1)
    if not pieces:
        yield headers, _plain(body, _first(headers, "content-transfer-encoding").lower())


def _part(headers: Headers, octets: bytes) -> Part:
    declared = _first(headers, "content-type")
    kind = declared.partition(";")[0].strip().lower() or "text/plain"
    charset = _CHARSET.search(declared)
    kind = "text/plain" if kind.startswith("multipart/") else kind
    return Part(kind, decoded(octets, charset[1].lower() if charset else "utf-8"))


def _boundary(declared: str, body: bytes) -> bytes:
    """Return the declared boundary, or the one that the body seems to have."""
    found = _BOUNDARY.search(declared)
    if found is not None:
        return (found[1] or found[2]).encode("utf-8", "replace")
    seen = re.search(rb"^--(\S{1,200})[ \t]*$", body[:4_000], re.MULTILINE)
    return seen[1] if seen is not None else b"\n"


def _pieces(body: bytes, boundary: bytes) -> list[bytes]:
    """Return what stands between the boundary lines; a missing last line ends with the body."""
    pieces = (b"\n" + body).split(b"\n--" + boundary, MAX_PARTS)[1:]
    found = []
    for piece in pieces:
        if piece.startswith(b"--"):
            break
        line, _, rest = piece.partition(b"\n")
        if not line.strip():
            found.append(rest)
    return found


def _plain(body: bytes, encoding: str) -> bytes:
    if "quoted-printable" in encoding:
        return binascii.a2b_qp(body)
    return _base64(body) if "base64" in encoding else body


def _base64(octets: bytes) -> bytes:
    """Decode what is base64 in `octets`, as far as it goes; text that is none stays as it is."""
    clean = re.sub(rb"[^A-Za-z0-9+/]", b"", octets)
    whole = clean[: len(clean) - (len(clean) % 4 == 1)]
    try:
        return binascii.a2b_base64(whole + b"=" * (-len(whole) % 4))
    except binascii.Error:
        return octets
