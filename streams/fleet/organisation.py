"""The organisational domain of a sending domain: reputation is kept for that one, sub-domains together."""

from functools import lru_cache

from schemas.ids import DomainName

SECOND_LEVEL = frozenset({"ac", "co", "com", "edu", "gov", "gob", "go", "gv", "ne", "net", "nom", "or", "org", "plc"})
"""Labels under which a country's registry sells names: firm.co.uk is an organisation's, co.uk is nobody's."""


@lru_cache(maxsize=4096)
def organisation_of(domain: DomainName) -> DomainName:
    """Return the last two labels, three below a country's second level; no list of public suffixes is asked."""
    labels = domain.split(".")
    wide = len(labels) > 2 and len(labels[-1]) == 2 and labels[-2] in SECOND_LEVEL
    return DomainName(".".join(labels[-3 if wide else -2 :]))
