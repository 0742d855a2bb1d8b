"""Tag lists, the notation that DKIM keys and DMARC records share (RFC 6376 3.2)."""


class TagsWrong(Exception):
    """The text is no tag list; the text says where."""


def tags(text: str) -> dict[str, str]:
    """Return {tag: value}, without the white space around them. Raises TagsWrong."""
    found: dict[str, str] = {}
    for part in text.split(";"):
        if not part.strip():
            continue
        name, equals, value = part.partition("=")
        name = name.strip().lower()
        if not equals or not name:
            raise TagsWrong(f"{part.strip()[:40]!r} is no tag=value")
        if name in found:
            raise TagsWrong(f"tag {name}= stands there twice")
        found[name] = value.strip()
    return found
