"""What each client pays a month, as the view adds it up: checked against figures added up by hand."""

import psycopg

from tests.projections.facts import rows

MONTH = "select date_trunc('month', current_date)::date"
_FILL = """
insert into costs (client, item, monthly_usd, source, priced_on, active, changed_at) values
    ('acme', 'domains', 3, 's', '2026-11-01', true, now()), ('acme', 'servers', 17, 's', '2026-11-01', true, now()),
    ('acme', 'gone', 99, 's', '2026-11-01', false, now()), ('idle', 'domains', 5, 's', '2026-11-01', true, now());
insert into routes (client, route, provider, account, ceiling_24h, ceiling_per_second, max_connections, accepts_basis,
    monthly_usd, per_thousand_usd, active, changed_at) values
    ('acme', 'own', 'smtp', '', 0, 0, 1, '{}', 0, 0, true, now()),
    ('acme', 'ses', 'ses', '', 0, 0, 1, '{}', 35, 0.10, true, now());
insert into daily_mail (day, client, campaign, domain, mailbox, route, receiver, accepted, delivered) values
    (current_date, 'acme', 'c', 'a.test', 'a@a.test', 'own', '', 3000, 2500),
    (current_date, 'acme', 'c', 'a.test', 'a@a.test', 'ses', '', 20000, 19500),
    (date_trunc('month', current_date)::date - 1, 'acme', 'c', 'a.test', 'a@a.test', 'ses', '', 1000, 0),
    (current_date, 'free', 'c', 'f.test', 'f@f.test', 'own', '', 10, 8);
"""


def test_a_month_costs_items_routes_and_mails_also_for_who_sends_nothing_or_pays_nothing(models: str) -> None:
    with psycopg.connect(models) as connection:
        connection.execute(_FILL)
    found = rows(
        models,
        f"select month = ({MONTH}), client, items_usd, routes_usd, round(by_the_mail_usd::numeric, 4)::float, "
        "round(total_usd::numeric, 4)::float, accepted, delivered, "
        "round(usd_per_thousand_delivered::numeric, 4)::float from analyst.monthly_costs order by 1, 2",
    )
    assert found == [
        (False, "acme", 20.0, 35.0, 0.1, 55.1, 1000, 0, None),
        (True, "acme", 20.0, 35.0, 2.0, 57.0, 23000, 22000, 2.5909),
        (True, "free", 0.0, 0.0, 0.0, 0.0, 10, 8, 0.0),
        (True, "idle", 5.0, 0.0, 0.0, 5.0, 0, 0, None),
    ]
