-- What receivers say of the domains: Gmail's spam rates by day, DMARC reports by source, and what followed from them.
create table spam_rates (
    client text not null,
    domain text not null,
    day date not null,
    share double precision,
    told_at timestamptz not null,
    primary key (client, domain, day)
);
comment on table spam_rates is 'Which share of a domain''s mail Gmail''s users called spam, by day, as Google''s Postmaster Tools tell it.';
comment on column spam_rates.client is 'Client that owns the domain';
comment on column spam_rates.domain is 'Sending domain';
comment on column spam_rates.day is 'Day, as Google counts days';
comment on column spam_rates.share is 'Share of 1 (0.001 is 0.1 %); null: Google has no data of that day, which is no 0 %';
comment on column spam_rates.told_at is 'When Google was asked last';

create table dmarc_reports (
    client text not null,
    domain text not null,
    org text not null,
    report_id text not null,
    begin_at timestamptz not null,
    end_at timestamptz not null,
    policy_seen text not null,
    skipped integer not null,
    taken_at timestamptz not null,
    primary key (client, domain, org, report_id)
);
comment on table dmarc_reports is 'DMARC aggregate reports that were taken, each once.';
comment on column dmarc_reports.client is 'Client that owns the domain';
comment on column dmarc_reports.domain is 'Sending domain that the report is about';
comment on column dmarc_reports.org is 'Receiver that reports';
comment on column dmarc_reports.report_id is 'Its number of the report';
comment on column dmarc_reports.begin_at is 'From when on it counts';
comment on column dmarc_reports.end_at is 'Until when it counts';
comment on column dmarc_reports.policy_seen is 'The domain''s DMARC policy as the receiver saw it: none, quarantine, reject; empty: not told';
comment on column dmarc_reports.skipped is 'Records that could not be read';
comment on column dmarc_reports.taken_at is 'When it was taken';
create index dmarc_reports_when on dmarc_reports (end_at);

create table dmarc_counts (
    client text not null,
    domain text not null,
    org text not null,
    report_id text not null,
    source text not null,
    ours boolean not null,
    disposition text not null,
    spf_aligned boolean not null,
    dkim_aligned boolean not null,
    mails bigint not null,
    primary key (client, domain, org, report_id, source, ours, disposition, spf_aligned, dkim_aligned)
);
comment on table dmarc_counts is 'What each DMARC report counts: mails of one source that were judged alike.';
comment on column dmarc_counts.client is 'Client that owns the domain';
comment on column dmarc_counts.domain is 'Sending domain in From';
comment on column dmarc_counts.org is 'Receiver that reports';
comment on column dmarc_counts.report_id is 'Its number of the report';
comment on column dmarc_counts.source is 'IP address that sent; empty: the small ones together';
comment on column dmarc_counts.ours is 'An address of ours, or authenticated as only we or our provider can';
comment on column dmarc_counts.disposition is 'What the receiver did: none or pass (let through), quarantine, reject, other';
comment on column dmarc_counts.spf_aligned is 'SPF passed for the domain in From';
comment on column dmarc_counts.dkim_aligned is 'DKIM passed for the domain in From';
comment on column dmarc_counts.mails is 'How many mails';

create table reputation_changes (
    client text not null,
    domain text not null,
    feed text not null,
    was text not null,
    now text not null,
    changed_at timestamptz not null,
    rule text not null,
    policy text not null,
    window_text text not null,
    numerator double precision not null,
    denominator double precision not null,
    threshold double precision not null,
    said text not null,
    fix text not null,
    partition integer not null,
    seq bigint not null,
    n integer not null,
    primary key (partition, seq, n)
);
comment on table reputation_changes is 'Each time what a feed says of a domain became better or worse, with the evidence.';
comment on column reputation_changes.client is 'Client that owns the domain';
comment on column reputation_changes.domain is 'Sending domain';
comment on column reputation_changes.feed is 'gmail_spam, dmarc_own (own mail fails), dmarc_unknown (others send in its name)';
comment on column reputation_changes.was is 'good, warning, bad';
comment on column reputation_changes.now is 'The same, from then on';
comment on column reputation_changes.changed_at is 'When it was decided';
comment on column reputation_changes.rule is 'Rule that decided it';
comment on column reputation_changes.policy is 'Version of the policy';
comment on column reputation_changes.window_text is 'Of which time the numbers speak';
comment on column reputation_changes.numerator is 'Share at Gmail, or mails that failed';
comment on column reputation_changes.denominator is 'Out of so many; 0: a plain number';
comment on column reputation_changes.threshold is 'What it was held against';
comment on column reputation_changes.said is 'What was said, by whom';
comment on column reputation_changes.fix is 'What to set or do';
comment on column reputation_changes.partition is 'Partition of the fleet journal';
comment on column reputation_changes.seq is 'Number of the entry';
comment on column reputation_changes.n is 'Number of the fact in the entry';
create index reputation_changes_domain on reputation_changes (domain, changed_at);

create view analyst.spam_rates as select * from spam_rates;
create view analyst.reputation_changes as select * from reputation_changes;
create view analyst.dmarc_reports as select * from dmarc_reports;
create view analyst.dmarc_counts as select * from dmarc_counts;
create view analyst.dmarc as
    select
        c.client, c.domain, (r.end_at at time zone 'UTC')::date as day, c.org, c.source, c.ours, c.disposition,
        c.spf_aligned, c.dkim_aligned, c.spf_aligned or c.dkim_aligned as passed, sum(c.mails)::bigint as mails
    from dmarc_counts c
    join dmarc_reports r using (client, domain, org, report_id)
    group by 1, 2, 3, 4, 5, 6, 7, 8, 9;
comment on view analyst.spam_rates is 'Which share of a domain''s mail Gmail''s users called spam, by day, as Google''s Postmaster Tools tell it.';
comment on view analyst.reputation_changes is 'Each time what a feed says of a domain became better or worse, with the evidence.';
comment on view analyst.dmarc_reports is 'DMARC aggregate reports that were taken, each once.';
comment on view analyst.dmarc_counts is 'What each DMARC report counts: mails of one source that were judged alike; dmarc adds them up by day.';
comment on view analyst.dmarc is 'Mails by day, domain, receiver and source as DMARC reports count them.';
do $$
declare
    item record;
begin
    for item in
        select v.view_name, a.attname, col_description(v.of_table::regclass, t.attnum) as text
        from (values ('spam_rates', 'spam_rates'), ('reputation_changes', 'reputation_changes'),
            ('dmarc_reports', 'dmarc_reports'), ('dmarc_counts', 'dmarc_counts'), ('dmarc', 'dmarc_counts')) v (view_name, of_table)
        join pg_attribute a on a.attrelid = format('analyst.%I', v.view_name)::regclass and a.attnum > 0
        join pg_attribute t on t.attrelid = v.of_table::regclass and t.attname = a.attname
    loop
        execute format('comment on column analyst.%I.%I is %L', item.view_name, item.attname, item.text);
    end loop;
end
$$;
comment on column analyst.dmarc.day is 'Day (UTC) on which the report ends';
comment on column analyst.dmarc.passed is 'DMARC passed: SPF or DKIM is aligned';
grant select on all tables in schema analyst to analyst;
