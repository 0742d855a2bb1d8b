-- Capacity counts what warm-up allows today, not what the quotas will allow once all is warm.

create or replace view capacity as
    with caps as (
        select distinct on (client, scope, name) client, scope, name, now as cap
        from warm_up_steps order by client, scope, name, decided_at desc, seq desc, n desc
    ), boxes as (
        select m.client, m.domain, m.mailbox, m.active, m.daily_quota, m.used, m.used_day,
            least(m.daily_quota, c.cap) as today
        from mailboxes m left join caps c on c.client = m.client and c.scope = 'mailbox' and c.name = m.mailbox
    )
    select
        b.client,
        b.domain,
        count(*) filter (where b.active) as mailboxes,
        count(*) filter (where b.active and s.state = 'unhealthy') as mailboxes_out,
        coalesce(sum(b.daily_quota) filter (where b.active), 0) as mailbox_quota_per_day,
        d.daily_quota as domain_quota_per_day,
        least(nullif(d.daily_quota, 0), k.cap, coalesce(sum(b.today) filter (where b.active), 0)) as sends_per_day,
        coalesce(sum(b.used) filter (where b.used_day = latest.day), 0) as used_on_latest_day,
        latest.day as latest_day
    from boxes b
    join domains d on d.client = b.client and d.domain = b.domain
    left join caps k on k.client = b.client and k.scope = 'domain' and k.name = b.domain
    left join sender_states s on s.client = b.client and s.scope = 'mailbox' and s.name = b.mailbox and s.to_at is null
    cross join lateral (
        select max(used_day) as day from mailboxes o where o.client = b.client and o.domain = b.domain
    ) latest
    group by b.client, b.domain, d.daily_quota, k.cap, latest.day;
comment on column capacity.sends_per_day is 'The smaller of both, and of what warm-up allows its mailboxes and itself';
