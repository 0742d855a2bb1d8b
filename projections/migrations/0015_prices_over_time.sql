-- What was paid in a past month does not change with the prices of today.
create table price_changes (
    client text not null,
    kind text not null,
    name text not null,
    from_day date not null,
    monthly_usd double precision not null,
    per_thousand_usd double precision not null,
    primary key (client, kind, name, from_day)
);
comment on table price_changes is 'Since when each client pays how much for what: one row for each day on which the fleet file was applied with it.';
comment on column price_changes.client is 'Client that pays';
comment on column price_changes.kind is 'item (of costs) or route';
comment on column price_changes.name is 'What is paid for: the item or the route';
comment on column price_changes.from_day is 'First day of this price (UTC): when the fleet file with it was applied';
comment on column price_changes.monthly_usd is 'This client''s part a month in USD from then on; 0 when it is not declared any more';
comment on column price_changes.per_thousand_usd is 'Price of 1,000 accepted mails over the route in USD from then on';

-- What was before is in the journal alone: until a rebuild, the prices of now count back to the first mail.
insert into price_changes
    select p.client, p.kind, p.name, least(p.since, m.first_day), case when p.active then p.monthly_usd else 0 end, p.by_the_mail
    from (
        select client, 'item' as kind, item as name, changed_at::date as since, active, monthly_usd, 0 as by_the_mail from costs
        union all
        select client, 'route', route, changed_at::date, active, monthly_usd, per_thousand_usd from routes
    ) p left join (select client, min(day) as first_day from daily_mail group by client) m using (client);

create view analyst.price_changes as select * from price_changes;
comment on view analyst.price_changes is 'Since when each client pays how much for what: prices of the fleet file, spread over clients, and of routes.';
do $$
declare
    item record;
begin
    for item in
        select attname, col_description(attrelid, attnum) as text
        from pg_attribute where attrelid = 'price_changes'::regclass and attnum > 0
    loop
        execute format('comment on column analyst.price_changes.%I is %L', item.attname, item.text);
    end loop;
end
$$;

create or replace view analyst.monthly_costs as
    with prices as (
        select
            client, kind, name, from_day, monthly_usd, per_thousand_usd,
            lead(from_day, 1, 'infinity') over (partition by client, kind, name order by from_day) as to_day
        from price_changes
    ), mail as (
        select
            date_trunc('month', d.day)::date as month, d.client,
            sum(d.accepted)::bigint as accepted, sum(d.delivered)::bigint as delivered,
            sum(d.accepted * coalesce(p.per_thousand_usd, 0)) / 1000 as by_the_mail_usd
        from (
            select day, client, route, sum(accepted) as accepted, sum(delivered) as delivered
            from daily_mail group by day, client, route
        ) d
        left join prices p on p.client = d.client and p.kind = 'route' and p.name = d.route
            and d.day >= p.from_day and d.day < p.to_day
        group by 1, 2
    ), months as (
        select month, client, (month + interval '1 month')::date as next_month
        from (
            select month, client from mail
            union
            select generate_series(date_trunc('month', min(from_day)), current_date, '1 month')::date, client
            from prices group by client
        ) seen
    ), fixed as (
        select
            m.month, m.client, m.next_month, p.kind,
            p.monthly_usd * (least(p.to_day, m.next_month) - greatest(p.from_day, m.month)) / (m.next_month - m.month) as usd
        from months m join prices p on p.client = m.client and p.from_day < m.next_month and p.to_day > m.month
    ), paid as (
        select
            month, client,
            coalesce(f.items_usd, 0) as items_usd,
            coalesce(f.routes_usd, 0) as routes_usd,
            coalesce(m.by_the_mail_usd, 0) as by_the_mail_usd,
            coalesce(m.accepted, 0) as accepted,
            coalesce(m.delivered, 0) as delivered
        from months
        left join mail m using (month, client)
        left join (
            select
                month, client, sum(usd) filter (where kind = 'item') as items_usd,
                sum(usd) filter (where kind = 'route') as routes_usd
            from fixed group by 1, 2
        ) f using (month, client)
    )
    select
        month, client, items_usd, routes_usd, by_the_mail_usd,
        items_usd + routes_usd + by_the_mail_usd as total_usd, accepted, delivered,
        1000 * (items_usd + routes_usd + by_the_mail_usd) / nullif(delivered, 0) as usd_per_thousand_delivered
    from paid;
comment on view analyst.monthly_costs is 'What each client paid each month, each day at the price in force on it, and for a thousand delivered mails.';
grant select on all tables in schema analyst to analyst;
