"""Whether a send is lawful to make at all: consent basis x country x routes, and what every mail must carry.

Conservative, and no legal advice: a country that is not known to allow mail without consent needs consent.
Sources: CAN-SPAM 15 U.S.C. 7704 (US: opt-out, a working unsubscribe, a postal address); PECR (GB: the e-mail
rule does not apply to corporate subscribers); UWG 7(2) and its like (DE, AT, ES, IT, PL, CH: opt-in, B2B too);
CASL (CA: consent first); GDPR and ePrivacy 13 elsewhere in the EU.
"""

from collections.abc import Collection

from schemas.fleet import ClientDeclared
from schemas.sending import BasisType, SendRequested

CORPORATE_ONLY = ("GB",)
"""Countries where only companies may be written to without consent; sole traders count as persons."""


def objection(client: ClientDeclared, accepted: Collection[BasisType], request: SendRequested) -> str:
    """Return why the send may not be made, as "rule: sentence"; "" when it may. `accepted` is what routes take."""
    basis = request.basis.type
    if basis == "legitimate_interest":
        country = request.recipient_country.upper()
        if country not in client.without_consent_in:
            where = country or "an unknown country"
            return f"country_gate: legitimate interest is not enough in {where}, consent is needed there"
        if country in CORPORATE_ONLY and request.entity_type != "company":
            return f"country_gate: in {country} only companies (entity_type) may be written to without consent"
    if basis != "transactional" and not client.unsubscribe_url:
        return "unsubscribe: the client has no unsubscribe_url, and this mail needs one"
    if basis not in accepted:
        return f"route_policy: no route of the client takes mail on the basis of {basis}"
    return ""
