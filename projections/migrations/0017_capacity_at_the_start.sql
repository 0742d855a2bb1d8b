-- What has not begun to warm up can carry what its warm-up begins with, not its whole quota.
alter table policies add column mailbox_begins_at integer, add column domain_begins_at integer, add column mailbox_target integer;
comment on column policies.mailbox_begins_at is 'Mails on the first day of a mailbox''s warm-up; empty when there is none';
comment on column policies.domain_begins_at is 'Mails on the first day of a domain''s warm-up; empty when there is none';
comment on column policies.mailbox_target is 'Mails a day of a mailbox that is warm; empty when there is no warm-up';
create or replace view analyst.policies as select * from policies;
comment on column analyst.policies.mailbox_begins_at is 'Mails on the first day of a mailbox''s warm-up; empty when there is none';
comment on column analyst.policies.domain_begins_at is 'Mails on the first day of a domain''s warm-up; empty when there is none';
comment on column analyst.policies.mailbox_target is 'Mails a day of a mailbox that is warm; empty when there is no warm-up';

alter table mailboxes add column warmed_since timestamptz;
comment on column mailboxes.warmed_since is 'Since when it was in use before it came here; empty when it warms up here';
create or replace view analyst.mailboxes as select * from mailboxes;
comment on column analyst.mailboxes.warmed_since is 'Since when it was in use before it came here; empty when it warms up here';

create or replace view capacity as
    with caps as (
        select distinct on (client, scope, name) client, scope, name, now as cap
        from warm_up_steps order by client, scope, name, decided_at desc, seq desc, n desc
    ), boxes as (
        select m.client, m.domain, m.mailbox, m.active, m.daily_quota, m.used, m.used_day,
            least(m.daily_quota, case
                when p.client is not null and p.mailbox_begins_at is null then null
                else coalesce(c.cap, case when m.warmed_since is null then p.mailbox_begins_at else p.mailbox_target end)
            end) as today
        from mailboxes m
        left join caps c on c.client = m.client and c.scope = 'mailbox' and c.name = m.mailbox
        left join policies p on p.client = m.client
    )
    select
        b.client,
        b.domain,
        count(*) filter (where b.active) as mailboxes,
        count(*) filter (where b.active and s.state = 'unhealthy') as mailboxes_out,
        coalesce(sum(b.daily_quota) filter (where b.active), 0) as mailbox_quota_per_day,
        d.daily_quota as domain_quota_per_day,
        least(
            nullif(d.daily_quota, 0),
            case when p.client is not null and p.domain_begins_at is null then null else coalesce(k.cap, p.domain_begins_at) end,
            coalesce(sum(b.today) filter (where b.active), 0)
        ) as sends_per_day,
        coalesce(sum(b.used) filter (where b.used_day = latest.day), 0) as used_on_latest_day,
        latest.day as latest_day
    from boxes b
    join domains d on d.client = b.client and d.domain = b.domain
    left join caps k on k.client = b.client and k.scope = 'domain' and k.name = b.domain
    left join sender_states s on s.client = b.client and s.scope = 'mailbox' and s.name = b.mailbox and s.to_at is null
    left join policies p on p.client = b.client
    cross join lateral (
        select max(used_day) as day from mailboxes o where o.client = b.client and o.domain = b.domain
    ) latest
    group by b.client, b.domain, d.daily_quota, k.cap, p.client, p.domain_begins_at, latest.day;
