-- A made-up fleet for `mailfleet bench dashboards`: bench.sends, bench.mailboxes and bench.days say how large.
create temporary table box on commit drop as
    select
        n,
        format('box%s@d%s.example', n, n % 12) as mailbox,
        format('d%s.example', n % 12) as domain,
        (array['acme', 'birch', 'cedar'])[1 + n % 12 / 4] as client,
        (array['own', 'own', 'zoho', 'mailgun'])[1 + n % 12 % 4] as route
    from generate_series(0, current_setting('bench.mailboxes')::integer - 1) n;

create temporary table mail on commit drop as
    select
        i,
        b.client,
        format('s%s', i) as send_id,
        (array['spring', 'winback', 'launch'])[1 + abs(hashint4(i # 1)::bigint) % 3] as campaign,
        md5(i::text) || md5((i + 1)::text) as recipient,
        (array['gmail', 'outlook', 'yahoo', 'zoho', ''])[1 + abs(hashint4(i # 2)::bigint) % 5] as receiver,
        b.mailbox,
        b.domain,
        b.route,
        current_date - ((i + i / current_setting('bench.mailboxes')::integer) % current_setting('bench.days')::integer) as day,
        abs(hashint4(i)::bigint) % 1000 as lot  -- decides what becomes of it: in thousandths
    from generate_series(0, current_setting('bench.sends')::integer - 1) i
    join box b on b.n = i * 31 % current_setting('bench.mailboxes')::integer;

insert into mailboxes (mailbox, client, domain, routes, daily_quota, active, used_day, used, out_until, changed_at)
    select mailbox, client, domain, array[route], 40, true, current_date::text, n % 40,
        case when n % 50 = 0 then now() + interval '1 hour' end, now()
    from box;
insert into domains (client, domain, daily_quota, active, changed_at)
    select distinct client, domain, 4000, true, now() from box;
insert into routes (client, route, provider, account, ceiling_24h, ceiling_per_second, max_connections, accepts_basis,
    monthly_usd, per_thousand_usd, active, changed_at)
    select distinct client, route, case route when 'own' then 'smtp' else route end, '', 0, 0, 5,
        array['express_consent'], 10, 0.1, true, now()
    from box;

insert into sends (client, send_id, campaign, recipient, recipient_domain, receiver, state, reason, attempts, mailbox,
    route, requested_at, admitted_at, accepted_at, ended_at, changed_at)
    select client, send_id, campaign, recipient, format('firm%s.example', i % 5000), receiver,
        case when lot < 15 then 'failed' when lot < 30 then 'bounced' when lot < 60 then 'replied' else 'delivered' end,
        case when lot < 15 then 'no such user' else '' end, 1, mailbox, route, day, day, day, day + interval '10 hours', day
    from mail;
insert into attempts (client, send_id, attempt, mailbox, route, quota_day, rule, not_before, not_after, outcome,
    reply_code, reply_enhanced, reply_text, reply_class, fault, verdict_rule, assigned_at, started_at, settled_at)
    select client, send_id, 1, mailbox, route, day::text, 'free the longest', day, day,
        case when lot < 15 then 'refused' else 'accepted' end, case when lot < 15 then 550 else 250 end,
        case when lot < 15 then '5.1.1' else '2.0.0' end, 'as the server said it', case when lot < 15 then 'hard' end,
        case when lot < 15 then 'recipient' end, case when lot < 15 then 'no such user' end, day, day,
        day + interval '10 hours'
    from mail;
insert into daily_mail (day, client, campaign, domain, mailbox, route, receiver, assigned, accepted, refused, deferred,
    delivered, hard_bounced, soft_bounced, complained, unsubscribed, replied)
    select day, client, campaign, domain, mailbox, route, receiver, count(*), count(*) filter (where lot >= 15),
        count(*) filter (where lot < 15), count(*) filter (where lot between 900 and 930),
        count(*) filter (where lot >= 30), count(*) filter (where lot < 20), count(*) filter (where lot between 20 and 29),
        count(*) filter (where lot = 500), count(*) filter (where lot between 501 and 503),
        count(*) filter (where lot between 30 and 59)
    from mail
    group by day, client, campaign, domain, mailbox, route, receiver;

insert into bounces (journal, partition, seq, n, client, send_id, recipient, attempt, mailbox, route, receiver, list_id,
    bounce_class, hard, fault, action, rule, status, reply_code, reply_text, sent_again, bounced_at)
    select 'delivery-journal', 0, i, 0, client, send_id, recipient, 1, mailbox, route, receiver, '',
        case when lot < 20 then 'hard' else 'mailbox_full' end, lot < 20, 'recipient', 'suppress',
        format('rule %s', lot), '5.1.1', 550, 'as the server said it', false, day + interval '1 day'
    from mail where lot between 15 and 29;
insert into complaints (journal, partition, seq, n, client, send_id, recipient, attempt, mailbox, route, receiver,
    list_id, kind, source, feedback, complained_at)
    select 'delivery-journal', 0, i, 1, client, send_id, recipient, 1, mailbox, route, receiver, '',
        case when lot = 500 then 'complaint' else 'unsubscribe' end, 'webhook', 'abuse', day + interval '1 day'
    from mail where lot between 500 and 503;
insert into replies (journal, partition, seq, n, client, send_id, recipient, attempt, kind, mailbox, folder,
    uid_validity, uid, message_id, replied_at)
    select 'delivery-journal', 0, i, 2, client, send_id, recipient, 1, 'reply', mailbox, 'INBOX', 1, i, '<x@y>',
        day + interval '1 day'
    from mail where lot between 30 and 59;
insert into suppressions (recipient, client, reason, rule, ordered_by, since)
    select recipient, case when lot < 20 then '' else client end,
        case when lot < 20 then 'hard_bounce' when lot = 500 then 'complaint' else 'unsubscribe' end, 'rule', '', day
    from mail where lot < 20 or lot between 500 and 503;
insert into refusals (journal, partition, seq, n, client, send_id, reason, detail, refused_at)
    select 'delivery-journal', 0, i, 3, client, send_id, (array['duplicate', 'suppressed', 'policy'])[1 + i % 3], 'why', day
    from mail where lot between 100 and 119;
insert into waiting (client, send_id, limit_name, earliest_at, rule, told_at)
    select client, send_id, (array['gap', 'hours', 'daily_quota', 'turn'])[1 + i % 4], now(), '', now()
    from mail where lot between 200 and 229;
insert into decisions (journal, partition, seq, n, decided_at, client, scope, subject, decision, rule, until, evidence)
    select 'fleet-journal', 0, i, 0, day + interval '9 hours', client,
        (array['mailbox', 'domain', 'send'])[1 + i % 3], (array[mailbox, domain, send_id])[1 + i % 3], 'left out', 'auth',
        day + interval '15 hours', 'what the server said'
    from mail where lot between 300 and 309;

insert into sender_states (client, scope, name, state, from_at, to_at, then_state, quota_share, rule, policy,
    window_text, numerator, denominator, threshold, said, partition, seq, n)
    select client, (array['mailbox', 'domain'])[1 + i % 2], (array[mailbox, domain])[1 + i % 2],
        (array['watched', 'unhealthy', 'probation', 'active'])[1 + i / 2 % 4], day, day + interval '1 day', 'probation', 0.5,
        'bounce rate', 'v1', '7 days', 4, 100, 0.03, '', 0, i, 0
    from mail where lot between 400 and 409;
insert into warm_up_steps (client, scope, name, day, was, now, anew, decided_at, rule, policy, window_text, numerator,
    denominator, threshold, partition, seq, n)
    select client, 'mailbox', mailbox, (current_date - ago)::text, 50 - ago, 51 - ago, ago = 50, current_date - ago,
        'grown', 'v1', '1 day', 0, 40, 1, 0, n * 100 + ago, 0
    from box cross join generate_series(0, 50) ago;
insert into alerts (client, alert, severity, title, detail, runbook, raised_at, last_raised_at, times, resolved_at)
    select client, format('mailbox_unhealthy/%s', mailbox), (array['info', 'warning', 'critical'])[1 + n % 3],
        'A mailbox is out of rotation', 'bounce rate', 'mailbox_unhealthy', now() - interval '1 day', now(), 2,
        case when n % 5 > 0 then now() end
    from box where n % 3 = 0;
insert into dns_findings (client, domain, route, check_name, verdict, evidence, fix, resolver, looked_at)
    select distinct client, domain, route, c, case when c = 'ptr' then 'broken' else 'good' end, 'asked', '', '', now()
    from box cross join unnest(array['spf', 'dkim', 'dmarc', 'ptr']) c;
insert into dns_history (client, domain, route, check_name, verdict, evidence, resolver, looked_at, partition, seq, n)
    select distinct client, domain, route, 'ptr', 'broken', 'asked', '', now() - interval '2 days', 0, n, 0
    from box where n < 12;
insert into gates (client, domain, route, check_name, closed_at, opened_at, rule, policy, looks, evidence, fix)
    select distinct client, domain, route, 'ptr', now() - interval '2 days', now() - interval '1 day', 'dns gate', 'v1', 2,
        'asked', 'set it'
    from box;

insert into costs (client, item, monthly_usd, source, priced_on, active, changed_at)
    select distinct client, item, 12.5, 'a price list', current_date, true, now()
    from box cross join unnest(array['domains', 'servers']) item;
insert into price_changes (client, kind, name, from_day, monthly_usd, per_thousand_usd)
    select client, 'item', item, current_date - ago, 12.5 + ago, 0
    from costs cross join unnest(array[0, 20, 40]) ago
    union all
    select client, 'route', route, current_date - 60, monthly_usd, per_thousand_usd from routes;

insert into rests (client, scope, name, from_at, until, rule, policy, window_text, numerator, threshold, said, partition,
    seq, n)
    select client, 'mailbox', mailbox, now() - interval '3 days', now() - interval '1 day', 'rotation', 'v1', '2 days', 900,
        700, '', 0, n, 0
    from box where n % 10 = 0;
insert into capacity_days (client, day, capacity_mails, demand_mails, mailboxes_in_reserve, mailboxes_resting,
    reserve_state, rule, said, planned_at)
    select distinct client, (current_date - ago)::text, 16000, 12000 + ago, 20, 40, 'enough', 'reserve', '', now()
    from box cross join generate_series(0, 50) ago;

insert into spam_rates (client, domain, day, share, told_at)
    select distinct client, domain, current_date - ago, case when ago % 4 > 0 then 0.0002 * (ago % 7) end, now()
    from box cross join generate_series(1, 50) ago;
insert into dmarc_reports (client, domain, org, report_id, begin_at, end_at, policy_seen, skipped, taken_at)
    select distinct client, domain, org, ago::text, current_date - ago - 1, current_date - ago - interval '1 second', 'none',
        0, now()
    from box cross join generate_series(0, 50) ago cross join unnest(array['google.com', 'Yahoo', 'Outlook.com']) org;
insert into dmarc_counts (client, domain, org, report_id, source, ours, disposition, spf_aligned, dkim_aligned, mails)
    select client, domain, org, report_id, format('192.0.2.%s', n), n < 10, 'none', n < 9, n < 8, 40 - n
    from dmarc_reports cross join generate_series(1, 12) n;
