-- The fleet as people see it: mailboxes, domains, routes, decisions, what waits, capacity; role analyst.
create table mailboxes (
    mailbox text primary key,
    client text not null,
    domain text not null,
    routes text[] not null,
    daily_quota integer not null,
    active boolean not null,
    used_day text not null default '',
    used integer not null default 0,
    open_attempt text not null default '',
    free_at timestamptz,
    out_until timestamptz,
    out_rule text not null default '',
    out_evidence text not null default '',
    last_assigned_at timestamptz,
    changed_at timestamptz not null
);
comment on table mailboxes is 'One row per mailbox: its quota today, what it does now, and why it stands still.';
comment on column mailboxes.mailbox is 'Address of the mailbox';
comment on column mailboxes.client is 'Client that owns it';
comment on column mailboxes.domain is 'Its sending domain';
comment on column mailboxes.routes is 'Its routes, in the order of preference';
comment on column mailboxes.daily_quota is 'Mails it may send on one local day';
comment on column mailboxes.active is 'Whether the fleet file declares it';
comment on column mailboxes.used_day is 'Local day that `used` counts';
comment on column mailboxes.used is 'Mails held or spent on that day';
comment on column mailboxes.open_attempt is 'client/send_id/attempt that it carries now, empty when none';
comment on column mailboxes.free_at is 'When the gap after its last mail ends';
comment on column mailboxes.out_until is 'Until when it is left out for a fault of its own';
comment on column mailboxes.out_rule is 'Rule that left it out';
comment on column mailboxes.out_evidence is 'What the server said, without addresses';
comment on column mailboxes.last_assigned_at is 'When it last got a send';
comment on column mailboxes.changed_at is 'When this row last changed';
create index mailboxes_client on mailboxes (client, domain);

create table domains (
    client text not null,
    domain text not null,
    daily_quota integer not null,
    active boolean not null,
    used_day text not null default '',
    used integer not null default 0,
    out_until timestamptz,
    out_rule text not null default '',
    out_evidence text not null default '',
    changed_at timestamptz not null,
    primary key (client, domain)
);
comment on table domains is 'One row per sending domain.';
comment on column domains.client is 'Client that owns it';
comment on column domains.domain is 'Domain name';
comment on column domains.daily_quota is 'Mails of all its mailboxes on one local day; 0 is no bound';
comment on column domains.active is 'Whether the fleet file declares it';
comment on column domains.used_day is 'Local day that `used` counts';
comment on column domains.used is 'Mails held or spent on that day';
comment on column domains.out_until is 'Until when it is left out for a fault of its own';
comment on column domains.out_rule is 'Rule that left it out';
comment on column domains.out_evidence is 'What the server said, without addresses';
comment on column domains.changed_at is 'When this row last changed';

create table routes (
    client text not null,
    route text not null,
    provider text not null,
    account text not null,
    ceiling_24h integer not null,
    ceiling_per_second double precision not null,
    max_connections integer not null,
    accepts_basis text[] not null,
    monthly_usd double precision not null,
    per_thousand_usd double precision not null,
    active boolean not null,
    failures_in_a_row integer not null default 0,
    trips integer not null default 0,
    out_until timestamptz,
    out_rule text not null default '',
    out_evidence text not null default '',
    changed_at timestamptz not null,
    primary key (client, route)
);
comment on table routes is 'One row per way out of a client.';
comment on column routes.client is 'Client that uses it';
comment on column routes.route is 'Name in the fleet file';
comment on column routes.provider is 'Adapter: smtp, zoho, mailgun, ses, memory';
comment on column routes.account is 'Provider account that several clients share, empty when none do';
comment on column routes.ceiling_24h is 'Mails in any 24 hours, this client''s share; 0 is no ceiling';
comment on column routes.ceiling_per_second is 'Mails a second, this client''s share; 0 is no ceiling';
comment on column routes.max_connections is 'Connections at once';
comment on column routes.accepts_basis is 'Consent bases that may go over it';
comment on column routes.monthly_usd is 'Fixed price a month in USD, this client''s share';
comment on column routes.per_thousand_usd is 'Price of 1,000 mails in USD';
comment on column routes.active is 'Whether the fleet file declares it';
comment on column routes.failures_in_a_row is 'Failures of its own since a mail last went through';
comment on column routes.trips is 'Trips of its breaker since a mail last went through';
comment on column routes.out_until is 'Until when its breaker is open; then one probe decides';
comment on column routes.out_rule is 'Rule that tripped it';
comment on column routes.out_evidence is 'What was seen, without addresses';
comment on column routes.changed_at is 'When this row last changed';

create table decisions (
    journal text not null,
    partition integer not null,
    seq bigint not null,
    n integer not null,
    decided_at timestamptz not null,
    client text not null,
    scope text not null,
    subject text not null,
    decision text not null,
    rule text not null,
    until timestamptz,
    evidence text not null,
    primary key (journal, partition, seq, n)
);
comment on table decisions is 'What was decided about mailboxes, domains, routes and stops, by which rule, on what evidence.';
comment on column decisions.journal is 'Journal that holds the decision';
comment on column decisions.partition is 'Its partition';
comment on column decisions.seq is 'Number of the entry';
comment on column decisions.n is 'Number of the fact in the entry';
comment on column decisions.decided_at is 'When it was decided';
comment on column decisions.client is 'Client it concerns, empty for all';
comment on column decisions.scope is 'mailbox, domain, route, send, client, campaign, all';
comment on column decisions.subject is 'Which one';
comment on column decisions.decision is 'The fact: left out, tripped, recovered, stopped, started, given up, turned away';
comment on column decisions.rule is 'Rule that decided';
comment on column decisions.until is 'Until when it holds';
comment on column decisions.evidence is 'What it was decided on';
create index decisions_subject on decisions (subject, decided_at);

create table waiting (
    client text not null,
    send_id text not null,
    limit_name text not null,
    earliest_at timestamptz,
    rule text not null,
    told_at timestamptz not null,
    primary key (client, send_id)
);
comment on table waiting is 'Why sends wait: the limit that binds, as upstream was told.';
comment on column waiting.client is 'Client that owns the send';
comment on column waiting.send_id is 'The send';
comment on column waiting.limit_name is 'not_before, retry, gap, hours, daily_quota, domain_quota, route_ceiling, route_out, ...';
comment on column waiting.earliest_at is 'Earliest time at which that may change';
comment on column waiting.rule is 'Why it waits again, after an attempt';
comment on column waiting.told_at is 'When upstream was told';

create view capacity as
    select
        m.client,
        m.domain,
        count(*) filter (where m.active) as mailboxes,
        count(*) filter (where m.active and m.out_until > now()) as mailboxes_out,
        coalesce(sum(m.daily_quota) filter (where m.active), 0) as mailbox_quota_per_day,
        d.daily_quota as domain_quota_per_day,
        case
            when d.daily_quota > 0 then least(d.daily_quota, coalesce(sum(m.daily_quota) filter (where m.active), 0))
            else coalesce(sum(m.daily_quota) filter (where m.active), 0)
        end as sends_per_day,
        coalesce(sum(m.used) filter (where m.used_day = latest.day), 0) as used_on_latest_day,
        latest.day as latest_day
    from mailboxes m
    join domains d on d.client = m.client and d.domain = m.domain
    cross join lateral (
        select max(used_day) as day from mailboxes o where o.client = m.client and o.domain = m.domain
    ) latest
    group by m.client, m.domain, d.daily_quota, latest.day;
comment on view capacity is 'Mails a day that each domain can carry, and what its latest local day has used.';
comment on column capacity.client is 'Client that owns the domain';
comment on column capacity.domain is 'Sending domain';
comment on column capacity.mailboxes is 'Mailboxes in use';
comment on column capacity.mailboxes_out is 'Of these, left out now';
comment on column capacity.mailbox_quota_per_day is 'Sum of the mailboxes'' quotas';
comment on column capacity.domain_quota_per_day is 'Quota of the domain; 0 is no bound';
comment on column capacity.sends_per_day is 'The smaller of both';
comment on column capacity.used_on_latest_day is 'Held or spent on the latest local day';
comment on column capacity.latest_day is 'That day';

-- Analysts read views, never tables.
create schema analyst;
comment on schema analyst is 'What analysts and Metabase read: views only.';
do $$
begin
    create role analyst nologin;
exception
    when duplicate_object or unique_violation then null;
end
$$;
do $$
declare
    name text;
    item record;
begin
    foreach name in array array['sends', 'refusals', 'attempts', 'dead_letters', 'mailboxes', 'domains', 'routes', 'decisions', 'waiting', 'capacity'] loop
        execute format('create view analyst.%I as select * from public.%I', name, name);
        execute format('comment on view analyst.%I is %L', name, obj_description(format('public.%I', name)::regclass));
        for item in
            select a.attname, col_description(a.attrelid, a.attnum) as text
            from pg_attribute a
            where a.attrelid = format('public.%I', name)::regclass and a.attnum > 0 and not a.attisdropped
        loop
            execute format('comment on column analyst.%I.%I is %L', name, item.attname, item.text);
        end loop;
    end loop;
end
$$;
grant usage on schema analyst to analyst;
grant select on all tables in schema analyst to analyst;
