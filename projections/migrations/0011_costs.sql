-- What clients pay: prices of the fleet file, spread over them, and their routes.
create table costs (
    client text not null,
    item text not null,
    monthly_usd double precision not null,
    source text not null,
    priced_on date not null,
    active boolean not null,
    changed_at timestamptz not null,
    primary key (client, item)
);
comment on table costs is 'What each client pays a month beside its routes: prices of the fleet file, spread over clients.';
comment on column costs.client is 'Client that pays';
comment on column costs.item is 'What is paid for';
comment on column costs.monthly_usd is 'This client''s part a month in USD';
comment on column costs.source is 'Who asked that price';
comment on column costs.priced_on is 'When it was asked';
comment on column costs.active is 'Whether the fleet file declares it';
comment on column costs.changed_at is 'When it was declared last';
create view analyst.costs as select * from costs;
comment on view analyst.costs is 'What each client pays a month beside its routes: prices of the fleet file, spread over clients.';
do $$
declare
    item record;
begin
    for item in
        select attname, col_description(attrelid, attnum) as text
        from pg_attribute where attrelid = 'costs'::regclass and attnum > 0
    loop
        execute format('comment on column analyst.costs.%I is %L', item.attname, item.text);
    end loop;
end
$$;

create view analyst.monthly_costs as
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
    )
    select
        m.month, m.client, f.items_usd, f.routes_usd, m.by_the_mail_usd,
        f.items_usd + f.routes_usd + m.by_the_mail_usd as total_usd, m.accepted, m.delivered,
        1000 * (f.items_usd + f.routes_usd + m.by_the_mail_usd) / nullif(m.delivered, 0) as usd_per_thousand_delivered
    from mail m join fixed f on f.client = m.client;
comment on view analyst.monthly_costs is 'What each client pays a month at the prices of today, and for a thousand delivered mails.';
comment on column analyst.monthly_costs.month is 'First day of the month';
comment on column analyst.monthly_costs.client is 'Client that pays';
comment on column analyst.monthly_costs.items_usd is 'Domains, plans, servers and the like in USD: the sum of costs';
comment on column analyst.monthly_costs.routes_usd is 'Fixed prices of its routes in USD';
comment on column analyst.monthly_costs.by_the_mail_usd is 'What its accepted mails cost by the thousand in USD';
comment on column analyst.monthly_costs.total_usd is 'All three in USD';
comment on column analyst.monthly_costs.accepted is 'Mails that providers took';
comment on column analyst.monthly_costs.delivered is 'Of these, delivered';
comment on column analyst.monthly_costs.usd_per_thousand_delivered is 'Cost of 1,000 delivered mails in USD';
grant select on all tables in schema analyst to analyst;
