"""A bought list: its canary stops it after fifty; without a canary the totals of domain and client do."""

from ops.simulation.engine import Scenario, Wish
from ops.simulation.mail_world import BOUGHT
from schemas.health import AlertRaised, HealthChanged, ListChanged
from schemas.policy import Lists, Policy, Rotation, WarmUp
from tests.scenarios.weather import MONDAY, ONE, OTHER, fleet, live

WARM = WarmUp(target_per_day=30, domain_start_per_day=5000)


def test_the_canary_catches_a_bought_list_and_no_other_list_or_client_feels_it() -> None:
    rules = Policy("canary", warm_up=WARM)
    wishes = {client: Wish(per_day=300, list_size=600) for client in (ONE, OTHER)}
    calm = live(Scenario(fleet(40, 4, 2, policy=rules, warm=True), MONDAY, 6, wishes=wishes))
    wishes[ONE] = Wish(per_day=300, list_size=600, special=(("bought", BOUGHT),))
    run = live(Scenario(fleet(40, 4, 2, policy=rules, warm=True), MONDAY, 6, wishes=wishes))
    assert [f.list_id for f in run.decided(ListChanged) if f.now == "held"] == ["bought"]
    assert 3 <= run.of_list("bought") <= 50
    assert [a.alert for a in run.decided(AlertRaised) if a.alert.startswith("list_held")] == [
        "list_held/client0/bought"
    ]
    assert not [h for h in run.decided(HealthChanged) if h.scope != "mailbox"]
    assert run.mails(OTHER) == calm.mails(OTHER)


def test_without_a_canary_a_bought_list_that_is_spread_over_a_hundred_mailboxes_shows_in_the_totals() -> None:
    rules = Policy("totals", warm_up=WARM, lists=Lists(canary_sends=0), rotation=Rotation(enabled=False))
    wishes = {
        ONE: Wish(
            per_day=1000, list_size=200, special=(("bought", BOUGHT), *((f"bought{n}", BOUGHT) for n in range(20)))
        )
    }
    wishes[OTHER] = Wish(per_day=1000)
    run = live(Scenario(fleet(200, 8, 2, policy=rules, warm=True), MONDAY, 3, wishes=wishes))
    out = [(at, f) for at, f in run.simulation.decided if isinstance(f, HealthChanged) and f.now == "unhealthy"]
    wide = [(at, f) for at, f in out if f.client == ONE and f.scope in ("client", "domain")]
    assert wide
    assert not [f for _, f in out if f.client == OTHER]
    assert sum(run.mails()) < 1000
    assert sum(run.mails(OTHER)) > 2500
