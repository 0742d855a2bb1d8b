"""Recipients of one company are spread over time; freemail providers are no company."""

from schemas.ids import DomainName

FREEMAIL = frozenset(
    {
        "gmail.com",
        "googlemail.com",
        "outlook.com",
        "hotmail.com",
        "live.com",
        "msn.com",
        "yahoo.com",
        "ymail.com",
        "aol.com",
        "icloud.com",
        "me.com",
        "mac.com",
        "gmx.de",
        "gmx.net",
        "gmx.com",
        "web.de",
        "t-online.de",
        "proton.me",
        "protonmail.com",
        "zoho.com",
        "mail.com",
        "mail.ru",
        "yandex.ru",
        "yandex.com",
        "qq.com",
        "163.com",
        "orange.fr",
        "free.fr",
        "libero.it",
        "seznam.cz",
        "wp.pl",
        "o2.pl",
    }
)
"""Domains whose users do not know each other; country editions of Yahoo and Hotmail by their first label."""


def company_of(domain: DomainName) -> DomainName:
    """Return the domain as a company's, "" for a freemail provider's."""
    if domain in FREEMAIL or domain.partition(".")[0] in ("yahoo", "hotmail", "outlook", "live"):
        return DomainName("")
    return domain
