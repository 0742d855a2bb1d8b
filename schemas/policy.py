"""The policy document: the thresholds by which the fleet is led, with a version. Applied as a fact, for each client.

Defaults are those of the field where a source is named, else ours. Rates are shares of 1, windows in their names.
"""

import msgspec

from schemas.ids import ClientId


class WarmUp(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a mailbox's and a domain's daily cap grows: next = max(cap + 1, floor(cap × growth)), on evidence only."""

    enabled: bool = True
    start_per_day: int = 5
    growth: float = 1.25
    target_per_day: int = 40  # of a mailbox, also when it is warm; its daily_quota may be lower
    days_at_least: int = 14  # to the target
    domain_start_per_day: int = 500
    domain_growth: float = 1.25
    hard_bounces_at_most: int = 1
    hard_bounce_rate_at_most: float = 0.02  # from `rate_from` mails on
    rate_from: int = 100
    halve_after_idle_days: int = 7
    restart_after_idle_days: int = 30


class Health(msgspec.Struct, frozen=True, omit_defaults=True):
    """When a mailbox, domain, route or client is watched, taken out, and let back."""

    window_days: int = 7
    window_sends: int = 200
    sample_at_least: int = 50
    absolute_at_least: int = 3  # so that a small count alone never trips a rate
    bounce_rate_watch: float = 0.02
    bounce_rate_mailbox: float = 0.03
    bounce_rate_domain: float = 0.05  # and client, route
    complaints_mailbox: int = 2  # in `window_days`
    complaint_rate_watch: float = 0.0008
    complaint_rate_out: float = 0.003  # domain, client, route; from `complaint_sample` delivered
    complaint_sample: int = 1000
    blocks_watch_1h: int = 1
    blocks_mailbox_1h: int = 2
    blocks_domain_1h: int = 3  # across mailboxes
    deferral_rate_watch_1h: float = 0.10
    deferral_rate_slow_1h: float = 0.25
    deferral_rate_domain_1h: float = 0.50
    deferral_sample_1h: int = 10
    out_hours: int = 24  # unhealthy, before probation by itself
    probation_per_day: int = 3
    probation_sends: int = 6  # delivered without a new sign, until active
    watched_share: float = 0.5  # of the quota while watched
    speed_share_watch: float = 0.5  # of the plan, for `speed_minutes`
    speed_minutes: int = 15
    complaints_reported_by: tuple[str, ...] = ("ses", "mailgun")  # routes of other providers: no data, not 0 %


class Rotation(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who rests: a share of each domain's mailboxes in turn, whole domains now and then; never below the floor."""

    enabled: bool = True
    rest_share: float = 0.1  # of a domain's mailboxes at a time
    rest_days: int = 2  # at most 3
    rest_every_days: int = 7
    domain_cool_down_every_days: int = 0  # 0 = never
    domain_cool_down_days: int = 7
    capacity_floor_share: float = 0.7  # of the client's healthy capacity of the day


class Reserve(msgspec.Struct, frozen=True, omit_defaults=True):
    """Mailboxes that are warm and wait: how many, what keeps them warm, when a person is told."""

    share: float = 0.0  # of the client's mailboxes
    trickle_per_day: int = 4
    low_share: float = 0.03
    forecast_days: int = 5


class Lists(msgspec.Struct, frozen=True, omit_defaults=True):
    """The canary of a new list: its first sends, a wait for bounces, then the rest or a hold."""

    canary_sends: int = 50  # 0 = none
    wait_hours: int = 24
    bounce_rate_at_most: float = 0.05
    bounces_at_least: int = 3
    complaints_at_most: int = 1


class Receivers(msgspec.Struct, frozen=True, omit_defaults=True):
    """Ceilings of an organisational domain's mail to one receiving provider in any 24 hours; sub-domains together."""

    ceilings_24h: dict[str, int] = msgspec.field(default_factory=lambda: {"gmail": 4000})
    """Google's bulk rules begin at 5,000 and never end."""


class DnsGate(msgspec.Struct, frozen=True, omit_defaults=True):
    """When what the DNS says closes a (domain, route) or a domain: only definite answers, seen twice."""

    enabled: bool = True
    seen_times: int = 2


class Reputation(msgspec.Struct, frozen=True, omit_defaults=True):
    """When what receivers say of a domain slows it down, takes it out or wakes a person. DMARC reports only wake.

    Google: "keep spam rates below 0.10 % and avoid ever reaching 0.30 %" (support.google.com/a/answer/81126, 2026-03).
    """

    enabled: bool = True
    gmail_spam_rate_watch: float = 0.001
    gmail_spam_rate_out: float = 0.003
    gmail_days: int = (
        7  # that a day's rate counts: Google tells it a day or two later, and of days with little mail none
    )
    dmarc_days: int = 7
    dmarc_fail_share: float = 0.05  # of a domain's own mail
    dmarc_fails_at_least: int = 10  # mails, so that a small count alone never trips the share
    dmarc_unknown_at_least: int = 50  # mails that others sent in the domain's name


class Policy(msgspec.Struct, frozen=True, omit_defaults=True):
    """All thresholds of one client under one version."""

    version: str = "default"
    warm_up: WarmUp = WarmUp()
    health: Health = Health()
    rotation: Rotation = Rotation()
    reserve: Reserve = Reserve()
    lists: Lists = Lists()
    receivers: Receivers = Receivers()
    dns_gate: DnsGate = DnsGate()
    reputation: Reputation = Reputation()


class PolicyApplied(msgspec.Struct, frozen=True):
    """A client is led by this policy from now on."""

    client: ClientId
    policy: Policy
    by: str
