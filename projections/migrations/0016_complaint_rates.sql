-- A complaint rate is one of routes whose provider reports complaints: where none does there is no data, not 0 %.
create table policies (
    client text primary key,
    version text not null,
    applied_by text not null,
    applied_at timestamptz not null,
    complaints_reported_by text[] not null
);
comment on table policies is 'The policy that leads each client.';
comment on column policies.client is 'Client that it leads';
comment on column policies.version is 'Its version: decisions name it';
comment on column policies.applied_by is 'Who applied it';
comment on column policies.applied_at is 'When it was applied';
comment on column policies.complaints_reported_by is 'Providers that report complaints: over routes of others there is no complaint rate';

create view analyst.policies as select * from policies;
comment on view analyst.policies is 'The policy that leads each client.';

create or replace view analyst.daily_mail as
    select
        d.*,
        case when t.told then d.accepted else 0 end as accepted_told,
        case when t.told then d.complained else 0 end as complained_told
    from daily_mail d
    left join (
        select r.client, r.route, r.provider = any (coalesce(p.complaints_reported_by, '{ses,mailgun}')) as told
        from routes r left join policies p on p.client = r.client
    ) t on t.client = d.client and t.route = d.route;

do $$
declare
    sums text;
    item record;
begin
    select string_agg(format('sum(%1$I) as %1$I', attname), ', ' order by attnum) into sums
    from pg_attribute
    where attrelid = 'analyst.daily_mail'::regclass and attnum >= (
        select attnum from pg_attribute where attrelid = 'analyst.daily_mail'::regclass and attname = 'assigned'
    );
    for item in
        select * from (values
            ('mails_by_day', 'day, client'), ('mails_by_campaign', 'day, client, campaign'),
            ('mails_by_domain', 'day, client, domain'), ('mails_by_mailbox', 'day, client, domain, mailbox'),
            ('mails_by_receiver', 'day, client, receiver')
        ) as views (name, columns)
    loop
        execute format(
            'create or replace view analyst.%I as select %s, %s from analyst.daily_mail group by %s',
            item.name, item.columns, sums, item.columns
        );
    end loop;
    execute format(
        'create or replace view analyst.mails_by_route as select m.day, m.client, m.route, '
        'coalesce(r.provider, '''') as provider, %s from analyst.daily_mail m '
        'left join routes r on r.client = m.client and r.route = m.route group by m.day, m.client, m.route, r.provider',
        sums
    );
    for item in
        select c.relname from pg_class c
        where c.relnamespace = 'analyst'::regnamespace and (c.relname = 'daily_mail' or c.relname like 'mails\_by\_%')
    loop
        execute format('comment on column analyst.%I.accepted_told is %L', item.relname,
            'Of the accepted: over routes whose provider reports complaints');
        execute format('comment on column analyst.%I.complained_told is %L', item.relname,
            'Of the complaints: those over the same routes; divided by accepted_told they are the rate');
    end loop;
    for item in
        select attname, col_description(attrelid, attnum) as text
        from pg_attribute where attrelid = 'policies'::regclass and attnum > 0
    loop
        execute format('comment on column analyst.policies.%I is %L', item.attname, item.text);
    end loop;
end
$$;
grant select on all tables in schema analyst to analyst;
