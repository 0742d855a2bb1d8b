-- What holds sends back beside the senders' own state: the DNS, lists on their first sends, receivers' ceilings.
create table dns_findings (
    client text not null,
    domain text not null,
    route text not null,
    check_name text not null,
    verdict text not null,
    evidence text not null,
    fix text not null,
    resolver text not null,
    looked_at timestamptz not null,
    primary key (client, domain, route, check_name)
);
comment on table dns_findings is 'The latest finding of each check. What stays the same is told once a day.';
comment on column dns_findings.client is 'Client that owns the domain';
comment on column dns_findings.domain is 'Sending domain';
comment on column dns_findings.route is 'Route for which it was checked; empty: the domain itself';
comment on column dns_findings.check_name is 'spf, dkim, dmarc, alignment, return_path, ptr, ip_blocklist; of the domain: mx, blocklist, expiry';
comment on column dns_findings.verdict is 'good, broken, missing, could_not_be_checked';
comment on column dns_findings.evidence is 'What was asked and answered';
comment on column dns_findings.fix is 'What to set or do; beside good: advice';
comment on column dns_findings.resolver is 'Name server that answered';
comment on column dns_findings.looked_at is 'When it was looked at';

create table dns_history (
    client text not null,
    domain text not null,
    route text not null,
    check_name text not null,
    verdict text not null,
    evidence text not null,
    resolver text not null,
    looked_at timestamptz not null,
    partition integer not null,
    seq bigint not null,
    n integer not null,
    primary key (partition, seq, n, check_name)
);
comment on table dns_history is 'Each time a check came to another verdict than before.';
comment on column dns_history.client is 'Client that owns the domain';
comment on column dns_history.domain is 'Sending domain';
comment on column dns_history.route is 'Route for which it was checked; empty: the domain itself';
comment on column dns_history.check_name is 'The check';
comment on column dns_history.verdict is 'What it came to from then on';
comment on column dns_history.evidence is 'What was asked and answered';
comment on column dns_history.resolver is 'Name server that answered';
comment on column dns_history.looked_at is 'When it was looked at';
comment on column dns_history.partition is 'Partition of the fleet journal';
comment on column dns_history.seq is 'Number of the entry';
comment on column dns_history.n is 'Number of the fact in the entry';
create index dns_history_domain on dns_history (domain, looked_at);

create table gates (
    client text not null,
    domain text not null,
    route text not null,
    check_name text not null,
    closed_at timestamptz not null,
    opened_at timestamptz,
    rule text not null,
    policy text not null,
    looks integer not null,
    evidence text not null,
    fix text not null,
    opened_by text not null default '',
    primary key (client, domain, route, check_name, closed_at)
);
comment on table gates is 'When what the DNS says closed a domain, or a domain over one route, and when it was open again.';
comment on column gates.client is 'Client that owns the domain';
comment on column gates.domain is 'Sending domain';
comment on column gates.route is 'Route over which it is closed; empty: altogether';
comment on column gates.check_name is 'The check that closed it';
comment on column gates.closed_at is 'Since when';
comment on column gates.opened_at is 'Until when, null while it is closed';
comment on column gates.rule is 'Rule that closed it';
comment on column gates.policy is 'Version of the policy';
comment on column gates.looks is 'Definite bad answers in a row';
comment on column gates.evidence is 'What was asked and answered';
comment on column gates.fix is 'Which record to set to what';
comment on column gates.opened_by is 'Rule that opened it';

create table lists (
    client text not null,
    list_id text not null,
    state text not null,
    changed_at timestamptz not null,
    until timestamptz,
    bounced integer not null default 0,
    complained integer not null default 0,
    rule text not null default '',
    policy text not null default '',
    numerator double precision not null default 0,
    denominator double precision not null default 0,
    threshold double precision not null default 0,
    said text not null default '',
    primary key (client, list_id)
);
comment on table lists is 'Lists of recipients that had a canary, or a bad sign before it was out.';
comment on column lists.client is 'Client that writes to it';
comment on column lists.list_id is 'Upstream''s name of it; campaign/NAME for sends that name none';
comment on column lists.state is 'new, canary (bounces are awaited), cleared, held (a person decides)';
comment on column lists.changed_at is 'When it came into this state';
comment on column lists.until is 'End of the wait for bounces';
comment on column lists.bounced is 'Hard bounces of the canary';
comment on column lists.complained is 'Complaints of the canary';
comment on column lists.rule is 'Rule that brought the state';
comment on column lists.policy is 'Version of the policy';
comment on column lists.numerator is 'What was counted';
comment on column lists.denominator is 'Of how many; 0 is a plain count';
comment on column lists.threshold is 'Against what';
comment on column lists.said is 'Who released it, and why';

create table receiver_use (
    client text not null,
    organisation text not null,
    receiver text not null,
    hour timestamptz not null,
    sends integer not null,
    primary key (client, organisation, receiver, hour)
);
comment on table receiver_use is 'What an organisational domain sends to a receiving provider, by hour; given back when provably unsent.';
comment on column receiver_use.client is 'Client that sends';
comment on column receiver_use.organisation is 'Organisational domain, its sub-domains together';
comment on column receiver_use.receiver is 'Receiving provider; unknown: its MX gave no answer';
comment on column receiver_use.hour is 'Hour (UTC) of the assignments';
comment on column receiver_use.sends is 'Sends held or spent';

do $$
declare
    name text;
    item record;
begin
    foreach name in array array['dns_findings', 'dns_history', 'gates', 'lists', 'receiver_use'] loop
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
grant select on all tables in schema analyst to analyst;
