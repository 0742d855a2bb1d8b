-- States over time, warm-up and the DNS under the names by which analysts look for them.
create view analyst.mailbox_timeline as
    select
        client, name as mailbox, state, from_at, to_at,
        extract(epoch from coalesce(to_at, now()) - from_at)::double precision / 3600 as lasted_hours,
        until, then_state, quota_share, rule, policy, window_text, numerator, denominator, threshold, said
    from sender_states where scope = 'mailbox'
    union all
    select
        client, name, 'resting', from_at, case when until <= now() then until end,
        extract(epoch from least(until, now()) - from_at)::double precision / 3600,
        until, 'active', 0, rule, policy, window_text, numerator, 0, threshold, said
    from rests where scope = 'mailbox';
comment on view analyst.mailbox_timeline is 'The states and rests of each mailbox over time, with what each was decided on; one never named was active.';

create view analyst.domain_timeline as
    select
        client, name as domain, '' as route, state, from_at, to_at,
        extract(epoch from coalesce(to_at, now()) - from_at)::double precision / 3600 as lasted_hours,
        rule, policy, window_text, numerator, denominator, threshold, said
    from sender_states where scope = 'domain'
    union all
    select
        client, name, '', 'cooling down', from_at, case when until <= now() then until end,
        extract(epoch from least(until, now()) - from_at)::double precision / 3600,
        rule, policy, window_text, numerator, 0, threshold, said
    from rests where scope = 'domain'
    union all
    select
        client, domain, route, 'closed by ' || check_name, closed_at, opened_at,
        extract(epoch from coalesce(opened_at, now()) - closed_at)::double precision / 3600,
        rule, policy, 'looks in a row', looks, 0, 0, evidence
    from gates;
comment on view analyst.domain_timeline is 'The states and cool-downs of each domain over time, and when what the DNS says closed it.';

create view analyst.warm_up as
    select
        client, scope, name, day::date as day, was as mails_per_day_before, now as mails_per_day, anew, decided_at, rule,
        policy, window_text, numerator, denominator, threshold
    from warm_up_steps;
comment on view analyst.warm_up is 'Warm-up curves: each change of the daily cap of a mailbox or domain.';

create view analyst.dns as select * from dns_findings;
comment on view analyst.dns is 'What the DNS says of each domain now, for each check; dns_history tells when it changed.';

-- What a column is said to be in the table, it is in the view.
do $$
declare
    item record;
begin
    for item in
        select v.view_name, a.attname, col_description(v.of_table::regclass, t.attnum) as text
        from (values ('mailbox_timeline', 'sender_states'), ('domain_timeline', 'sender_states'),
            ('warm_up', 'warm_up_steps'), ('dns', 'dns_findings')) v (view_name, of_table)
        join pg_attribute a on a.attrelid = format('analyst.%I', v.view_name)::regclass and a.attnum > 0
        join pg_attribute t on t.attrelid = v.of_table::regclass and t.attname = a.attname
    loop
        execute format('comment on column analyst.%I.%I is %L', item.view_name, item.attname, item.text);
    end loop;
end
$$;
comment on column analyst.mailbox_timeline.state is 'active, watched, unhealthy (out of rotation), probation, resting';
comment on column analyst.mailbox_timeline.mailbox is 'Address of the mailbox';
comment on column analyst.mailbox_timeline.lasted_hours is 'How long it lasted, in hours; up to now while it lasts';
comment on column analyst.domain_timeline.domain is 'Sending domain';
comment on column analyst.domain_timeline.route is 'Route over which it was closed; empty: altogether';
comment on column analyst.domain_timeline.state is 'active, watched, unhealthy, probation, cooling down; or closed by a check of the DNS';
comment on column analyst.domain_timeline.lasted_hours is 'How long it lasted, in hours; up to now while it lasts';
comment on column analyst.warm_up.mails_per_day_before is 'Cap before; 0: warm-up had not begun';
comment on column analyst.warm_up.mails_per_day is 'Cap from that day on';
create index sender_states_when on sender_states (from_at);
create index alerts_open on alerts (last_raised_at) where resolved_at is null;
grant select on all tables in schema analyst to analyst;
