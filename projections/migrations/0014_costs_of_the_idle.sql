-- Who pays is shown in this month also without a mail; who pays nothing by the month, for the mails alone.
create or replace view analyst.monthly_costs as
    with fixed as (
        select client, sum(items_usd) as items_usd, sum(routes_usd) as routes_usd
        from (
            select client, monthly_usd as items_usd, 0 as routes_usd from costs where active
            union all
            select client, 0, monthly_usd from routes where active
        ) paid
        group by client
    ), mail as (
        select
            date_trunc('month', d.day)::date as month, d.client, sum(d.accepted) as accepted, sum(d.delivered) as delivered,
            sum(d.accepted * coalesce(r.per_thousand_usd, 0)) / 1000 as by_the_mail_usd
        from daily_mail d left join routes r on r.client = d.client and r.route = d.route
        group by 1, 2
    ), paid as (
        select
            month, client,
            coalesce(f.items_usd, 0) as items_usd,
            coalesce(f.routes_usd, 0) as routes_usd,
            coalesce(m.by_the_mail_usd, 0) as by_the_mail_usd,
            coalesce(m.accepted, 0) as accepted,
            coalesce(m.delivered, 0) as delivered
        from (
            select month, client from mail
            union
            select date_trunc('month', current_date)::date, client from fixed
        ) months
        left join mail m using (month, client)
        left join fixed f using (client)
    )
    select
        month, client, items_usd, routes_usd, by_the_mail_usd,
        items_usd + routes_usd + by_the_mail_usd as total_usd, accepted, delivered,
        1000 * (items_usd + routes_usd + by_the_mail_usd) / nullif(delivered, 0) as usd_per_thousand_delivered
    from paid;
