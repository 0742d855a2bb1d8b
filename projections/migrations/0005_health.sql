-- Senders' states, warm-up steps and alerts, each with the evidence that it was decided on.
create table sender_states (
    client text not null,
    scope text not null,
    name text not null,
    state text not null,
    from_at timestamptz not null,
    to_at timestamptz,
    until timestamptz,
    then_state text not null,
    quota_share double precision not null,
    rule text not null,
    policy text not null,
    window_text text not null,
    numerator double precision not null,
    denominator double precision not null,
    threshold double precision not null,
    said text not null,
    partition integer not null,
    seq bigint not null,
    n integer not null,
    primary key (partition, seq, n)
);
comment on table sender_states is 'The states of mailboxes, domains, routes and clients over time; who never had one is active.';
comment on column sender_states.client is 'Client that owns the sender';
comment on column sender_states.scope is 'mailbox, domain, route, client';
comment on column sender_states.name is 'Address, domain or route; the client''s own name for a client';
comment on column sender_states.state is 'active, watched, unhealthy (out of rotation), probation';
comment on column sender_states.from_at is 'When the state began';
comment on column sender_states.to_at is 'When it ended, null while it lasts';
comment on column sender_states.until is 'When an unhealthy sender comes back by itself; null: a person decides';
comment on column sender_states.then_state is 'State that follows unhealthy';
comment on column sender_states.quota_share is 'Share of its quota that a watched sender may use, 0-1';
comment on column sender_states.rule is 'Rule that decided';
comment on column sender_states.policy is 'Version of the policy that the rule stands in';
comment on column sender_states.window_text is 'What the numbers were counted over';
comment on column sender_states.numerator is 'Bad signs counted';
comment on column sender_states.denominator is 'Of how many; 0: a plain count';
comment on column sender_states.threshold is 'What they were held against';
comment on column sender_states.said is 'What a server or a person said, without addresses';
comment on column sender_states.partition is 'Partition of the fleet journal that holds the decision';
comment on column sender_states.seq is 'Number of the entry';
comment on column sender_states.n is 'Number of the fact in the entry';
create index sender_states_sender on sender_states (client, scope, name, from_at);
create index sender_states_open on sender_states (client, scope, name) where to_at is null;

create table warm_up_steps (
    client text not null,
    scope text not null,
    name text not null,
    day text not null,
    was integer not null,
    now integer not null,
    anew boolean not null,
    decided_at timestamptz not null,
    rule text not null,
    policy text not null,
    window_text text not null,
    numerator double precision not null,
    denominator double precision not null,
    threshold double precision not null,
    partition integer not null,
    seq bigint not null,
    n integer not null,
    primary key (partition, seq, n)
);
comment on table warm_up_steps is 'Each change of the daily cap of a mailbox or domain that warms up.';
comment on column warm_up_steps.client is 'Client that owns the sender';
comment on column warm_up_steps.scope is 'mailbox or domain';
comment on column warm_up_steps.name is 'Address or domain';
comment on column warm_up_steps.day is 'First local day for which the cap holds';
comment on column warm_up_steps.was is 'Mails a day before; 0: warm-up had not begun';
comment on column warm_up_steps.now is 'Mails a day from then on';
comment on column warm_up_steps.anew is 'Whether the ramp begins on this day';
comment on column warm_up_steps.decided_at is 'When it was decided';
comment on column warm_up_steps.rule is 'Rule that decided';
comment on column warm_up_steps.policy is 'Version of the policy that the rule stands in';
comment on column warm_up_steps.window_text is 'What the numbers were counted over';
comment on column warm_up_steps.numerator is 'What was counted';
comment on column warm_up_steps.denominator is 'Of how many; 0: a plain count';
comment on column warm_up_steps.threshold is 'What it was held against';
comment on column warm_up_steps.partition is 'Partition of the fleet journal that holds the decision';
comment on column warm_up_steps.seq is 'Number of the entry';
comment on column warm_up_steps.n is 'Number of the fact in the entry';
create index warm_up_steps_sender on warm_up_steps (client, scope, name, decided_at);

create table alerts (
    client text not null,
    alert text not null,
    severity text not null,
    title text not null,
    detail text not null,
    runbook text not null,
    raised_at timestamptz not null,
    last_raised_at timestamptz not null,
    times integer not null,
    resolved_at timestamptz,
    how text not null default '',
    primary key (client, alert)
);
comment on table alerts is 'What a person should know or do: one row a story, its latest telling.';
comment on column alerts.client is 'Client it concerns';
comment on column alerts.alert is 'What it is, of whom';
comment on column alerts.severity is 'info, warning, critical';
comment on column alerts.title is 'What happened, in one line';
comment on column alerts.detail is 'The evidence, and what brings the end';
comment on column alerts.runbook is 'What to read: ops/runbooks/<runbook>.md';
comment on column alerts.raised_at is 'When the story began';
comment on column alerts.last_raised_at is 'When it was told last';
comment on column alerts.times is 'How often it was told since it began';
comment on column alerts.resolved_at is 'When it ended, null while it goes on';
comment on column alerts.how is 'How it ended';

create or replace view capacity as
    select
        m.client,
        m.domain,
        count(*) filter (where m.active) as mailboxes,
        count(*) filter (where m.active and s.state = 'unhealthy') as mailboxes_out,
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
    left join sender_states s on s.client = m.client and s.scope = 'mailbox' and s.name = m.mailbox and s.to_at is null
    cross join lateral (
        select max(used_day) as day from mailboxes o where o.client = m.client and o.domain = m.domain
    ) latest
    group by m.client, m.domain, d.daily_quota, latest.day;
comment on column capacity.mailboxes_out is 'Of these, out of rotation now';
comment on column mailboxes.out_until is 'When it comes back by itself; null: it is not out, or a person decides (sender_states)';
comment on column domains.out_until is 'When it comes back by itself; null: it is not out, or a person decides (sender_states)';

do $$
declare
    name text;
    item record;
begin
    foreach name in array array['sender_states', 'warm_up_steps', 'alerts'] loop
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
