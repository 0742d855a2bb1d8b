"""What a route needs in the domain name system, from its provider and its options.

Options of a route (`{domain}` stands for the sending domain; several values with spaces between):
    dns_spf            SPF terms of which one must be there, "include:zohomail.eu" or "ip4:192.0.2.7"
    dns_ips            the addresses from which an own server sends; checked for PTR, SPF and blocklists
    dns_helo           the name that the own server says in EHLO
    dns_return_path    (or bounce_domain) the envelope sender's domain, when it is not the sending domain
    dns_dkim_selector  (or dkim_selector) the selector of the signature
    dns_dkim_domain    (or dkim_domain) the signature's d=, when it is not the sending domain
    dns_dkim_key_ref   (or dkim_key_ref) where our private key stands, when we or our server sign
Adapters never see the dns_ options; the dkim_ ones are those of adapters/dkim_sign.py, which reads them as they stand.
"""

import ipaddress
from collections.abc import Mapping

import msgspec

from schemas.fleet import RouteDeclared
from schemas.ids import DomainName, RouteId

PREFIX = "dns_"
OWN_RETURN_PATH = ("ses",)
"""Providers that send under a return path of their own unless they are told another: SPF is theirs then."""
_ZOHO_REGIONS = {".com.au": "com.au", ".com.cn": "com.cn", ".eu": "eu", ".in": "in", ".jp": "jp", ".sa": "sa"}


class Needs(msgspec.Struct, frozen=True):
    """What the records of a (domain × route) must say."""

    domain: DomainName
    route: RouteId
    provider: str
    spf: tuple[str, ...] = ()  # one of them must be there; () is not known
    ips: tuple[str, ...] = ()
    helo: str = ""
    return_path: str = ""  # "" is the provider's own
    return_mx: str = ""  # what the return path's MX must be, when the provider takes the bounces
    selector: str = ""
    dkim_domain: str = ""
    key_ref: str = ""


def needs_of(domain: DomainName, way: RouteDeclared) -> Needs:
    """Return what `domain` needs for sending over this route."""
    options = {name: value.replace("{domain}", domain) for name, value in way.options.items()}
    at_provider = options.get("domain", "") if way.provider == "mailgun" else ""
    return_path = options.get("dns_return_path") or options.get("bounce_domain") or at_provider
    if not return_path and way.provider not in OWN_RETURN_PATH:
        return_path = domain
    selector = _either(options, "dkim_selector")
    ips = tuple(ip for ip in options.get("dns_ips", "").split() if is_ip(ip))
    key_ref = _either(options, "dkim_key_ref")
    if not key_ref and selector and way.provider == "smtp" and ips:
        key_ref = f"file:dkim.{domain}.{selector}.pem"
    return Needs(
        domain=domain,
        route=way.route,
        provider=way.provider,
        spf=tuple(options.get("dns_spf", "").lower().split()) or _provider_spf(way),
        ips=ips,
        helo=options.get("dns_helo", "").lower().rstrip("."),
        return_path=return_path.lower(),
        return_mx=_return_mx(way, options),
        selector=selector,
        dkim_domain=(_either(options, "dkim_domain") or at_provider or domain).lower(),
        key_ref=key_ref,
    )


def is_ip(text: str) -> bool:
    """Whether the text is an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _either(options: Mapping[str, str], name: str) -> str:
    return options.get(PREFIX + name) or options.get(name, "")


def _provider_spf(way: RouteDeclared) -> tuple[str, ...]:
    match way.provider:
        case "mailgun":
            return ("include:mailgun.org",)
        case "ses":
            return ("include:amazonses.com",)
        case "zoho":  # both spellings are in Zoho's help, per data centre (zoho.com/mail/help/adminconsole, 2026-11)
            region = next((to for end, to in _ZOHO_REGIONS.items() if way.host.endswith(end)), "com")
            return (f"include:zohomail.{region}", f"include:zoho.{region}", f"include:one.zoho.{region}")
        case _:
            return ()


def _return_mx(way: RouteDeclared, options: Mapping[str, str]) -> str:
    """SES takes the bounces of a custom MAIL FROM at a name per region (SES developer guide, mail-from)."""
    region = options.get("region", "")
    return f"feedback-smtp.{region}.amazonses.com" if way.provider == "ses" and region else ""
