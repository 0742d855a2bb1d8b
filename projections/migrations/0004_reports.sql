-- What came back of mail that was sent, and who gets no mail.
comment on column sends.state is 'admitted, assigned, started, unknown, accepted, delivered, bounced, replied, unsubscribed, complained, failed, cancelled, expired, refused, assumed_sent';

create table bounces (
    journal text not null,
    partition integer not null,
    seq bigint not null,
    n integer not null,
    client text not null,
    send_id text not null,
    recipient text not null,
    attempt integer not null,
    mailbox text not null,
    route text not null,
    receiver text not null,
    list_id text not null,
    bounce_class text not null,
    hard boolean not null,
    fault text not null,
    action text not null,
    rule text not null,
    status text not null,
    reply_code integer not null,
    reply_text text not null,
    sent_again boolean not null,
    bounced_at timestamptz not null,
    primary key (journal, partition, seq, n)
);
comment on table bounces is 'Refusals that came after a server had accepted the mail.';
comment on column bounces.journal is 'Journal that holds the decision';
comment on column bounces.partition is 'Its partition';
comment on column bounces.seq is 'Number of the entry';
comment on column bounces.n is 'Number of the fact in the entry';
comment on column bounces.client is 'Client that owns the send';
comment on column bounces.send_id is 'The send';
comment on column bounces.recipient is 'Keyed hash of the address';
comment on column bounces.attempt is 'Attempt that came back';
comment on column bounces.mailbox is 'Mailbox that carried it';
comment on column bounces.route is 'Route it went over';
comment on column bounces.receiver is 'Receiving provider, empty when not known';
comment on column bounces.list_id is 'List that upstream named, empty when none';
comment on column bounces.bounce_class is 'hard, soft, mailbox_full, block, policy_auth, ... or unknown';
comment on column bounces.hard is 'Whether the address will never work: the recipient is suppressed';
comment on column bounces.fault is 'Whose fault it is: recipient, message, mailbox, domain, route, network';
comment on column bounces.action is 'What follows: suppress, retry, fail, pause, ask';
comment on column bounces.rule is 'Rule that classified it';
comment on column bounces.status is 'Enhanced status code (RFC 3463), empty when none was said';
comment on column bounces.reply_code is 'SMTP reply code, 0 when none was said';
comment on column bounces.reply_text is 'What was said, without addresses';
comment on column bounces.sent_again is 'Whether the send waits for another attempt: the provider itself gave it back';
comment on column bounces.bounced_at is 'When it was decided';
create index bounces_send on bounces (client, send_id);
create index bounces_mailbox on bounces (mailbox, bounced_at);

create table complaints (
    journal text not null,
    partition integer not null,
    seq bigint not null,
    n integer not null,
    client text not null,
    send_id text not null,
    recipient text not null,
    attempt integer not null,
    mailbox text not null,
    route text not null,
    receiver text not null,
    list_id text not null,
    kind text not null,
    source text not null,
    feedback text not null,
    complained_at timestamptz not null,
    primary key (journal, partition, seq, n)
);
comment on table complaints is 'Recipients who called a mail spam, or unsubscribed.';
comment on column complaints.journal is 'Journal that holds the decision';
comment on column complaints.partition is 'Its partition';
comment on column complaints.seq is 'Number of the entry';
comment on column complaints.n is 'Number of the fact in the entry';
comment on column complaints.client is 'Client that owns the send';
comment on column complaints.send_id is 'The send';
comment on column complaints.recipient is 'Keyed hash of the address';
comment on column complaints.attempt is 'Attempt that it is about';
comment on column complaints.mailbox is 'Mailbox that carried it';
comment on column complaints.route is 'Route it went over';
comment on column complaints.receiver is 'Receiving provider, empty when not known';
comment on column complaints.list_id is 'List that upstream named, empty when none';
comment on column complaints.kind is 'complaint or unsubscribe';
comment on column complaints.source is 'Who told: bounce_mail, webhook, provider_log, one_click';
comment on column complaints.feedback is 'Feedback type of a complaint (RFC 5965)';
comment on column complaints.complained_at is 'When it was decided';
create index complaints_send on complaints (client, send_id);
create index complaints_mailbox on complaints (mailbox, complained_at);

create table replies (
    journal text not null,
    partition integer not null,
    seq bigint not null,
    n integer not null,
    client text not null,
    send_id text not null,
    recipient text not null,
    attempt integer not null,
    kind text not null,
    mailbox text not null,
    folder text not null,
    uid_validity bigint not null,
    uid bigint not null,
    message_id text not null,
    replied_at timestamptz not null,
    primary key (journal, partition, seq, n)
);
comment on table replies is 'Answers to sends: where a person finds them. Automatic ones stop nothing and have no place.';
comment on column replies.journal is 'Journal that holds the decision';
comment on column replies.partition is 'Its partition';
comment on column replies.seq is 'Number of the entry';
comment on column replies.n is 'Number of the fact in the entry';
comment on column replies.client is 'Client that owns the send';
comment on column replies.send_id is 'The send';
comment on column replies.recipient is 'Keyed hash of the address';
comment on column replies.attempt is 'Attempt that was answered';
comment on column replies.kind is 'reply, auto_reply or challenge';
comment on column replies.mailbox is 'Mailbox of ours in which it lies';
comment on column replies.folder is 'Folder there';
comment on column replies.uid_validity is 'UIDVALIDITY of the folder';
comment on column replies.uid is 'UID of the message';
comment on column replies.message_id is 'Message-ID of the answer';
comment on column replies.replied_at is 'When it was decided';
create index replies_send on replies (client, send_id);

create table suppressions (
    recipient text not null,
    client text not null,
    reason text not null,
    rule text not null,
    ordered_by text not null,
    since timestamptz not null,
    until timestamptz,
    ended_by text,
    ended_why text,
    primary key (recipient, client, reason, since)
);
comment on table suppressions is 'Who gets no mail. Complaints and unsubscribes never end.';
comment on column suppressions.recipient is 'Keyed hash of the address';
comment on column suppressions.client is 'Client that may not write, empty for all';
comment on column suppressions.reason is 'hard_bounce, complaint, unsubscribe, manual';
comment on column suppressions.rule is 'Rule or words by which it was decided';
comment on column suppressions.ordered_by is 'Operator who ordered it, empty when a report did';
comment on column suppressions.since is 'When it began';
comment on column suppressions.until is 'When an operator took it back; null while it holds';
comment on column suppressions.ended_by is 'Operator who took it back';
comment on column suppressions.ended_why is 'Why it was taken back';

create table suppressed_domains (
    domain text not null,
    client text not null,
    suppressed boolean not null,
    reason text not null,
    ordered_by text not null,
    changed_at timestamptz not null,
    primary key (domain, client)
);
comment on table suppressed_domains is 'Recipients'' domains, with their sub-domains, that get no mail.';
comment on column suppressed_domains.domain is 'The domain';
comment on column suppressed_domains.client is 'Client that may not write, empty for all';
comment on column suppressed_domains.suppressed is 'Whether it holds; false once it was taken back';
comment on column suppressed_domains.reason is 'Why, in the operator''s words';
comment on column suppressed_domains.ordered_by is 'Operator who ordered it last';
comment on column suppressed_domains.changed_at is 'When it was ordered last';

create table unsuppress_refusals (
    journal text not null,
    partition integer not null,
    seq bigint not null,
    n integer not null,
    recipient text not null,
    client text not null,
    why text not null,
    asked_by text not null,
    refused_at timestamptz not null,
    primary key (journal, partition, seq, n)
);
comment on table unsuppress_refusals is 'Suppressions that an operator wanted to take back and that stay.';
comment on column unsuppress_refusals.journal is 'Journal that holds the decision';
comment on column unsuppress_refusals.partition is 'Its partition';
comment on column unsuppress_refusals.seq is 'Number of the entry';
comment on column unsuppress_refusals.n is 'Number of the fact in the entry';
comment on column unsuppress_refusals.recipient is 'Keyed hash of the address';
comment on column unsuppress_refusals.client is 'Client it was asked for, empty for all';
comment on column unsuppress_refusals.why is 'Why it stays';
comment on column unsuppress_refusals.asked_by is 'Operator who asked';
comment on column unsuppress_refusals.refused_at is 'When it was refused';

create table stray_reports (
    source text not null,
    event_id text not null,
    what text not null,
    kind text not null,
    why text not null,
    client text not null,
    mailbox text not null,
    folder text not null,
    uid_validity bigint not null,
    uid bigint not null,
    reported_at timestamptz not null,
    seen_at timestamptz not null,
    primary key (source, event_id, what)
);
comment on table stray_reports is 'Reports that belong to no send: forged ones, and those that a person should look at.';
comment on column stray_reports.source is 'Who told: bounce_mail, webhook, provider_log, one_click, mta_log';
comment on column stray_reports.event_id is 'The reporter''s own name of the report';
comment on column stray_reports.what is 'uncorrelated or forged';
comment on column stray_reports.kind is 'bounce, accepted, delivered, complaint, unsubscribe, reply, auto_reply, challenge; empty when forged';
comment on column stray_reports.why is 'Why no send was found';
comment on column stray_reports.client is 'Client, empty when not known';
comment on column stray_reports.mailbox is 'Mailbox of ours that it was read in or is about, empty when not known';
comment on column stray_reports.folder is 'Folder there, empty for what is no mail';
comment on column stray_reports.uid_validity is 'UIDVALIDITY of the folder';
comment on column stray_reports.uid is 'UID of the message';
comment on column stray_reports.reported_at is 'When it happened, as the report says';
comment on column stray_reports.seen_at is 'When it was decided';

-- Analysts need no way into a mailbox: no Message-ID, which may carry the writer's host.
do $$
declare
    name text;
    item record;
    columns text;
begin
    foreach name in array array['bounces', 'complaints', 'replies', 'suppressions', 'suppressed_domains', 'unsuppress_refusals', 'stray_reports'] loop
        select string_agg(format('%I', a.attname), ', ' order by a.attnum) into columns
        from pg_attribute a
        where a.attrelid = format('public.%I', name)::regclass and a.attnum > 0 and not a.attisdropped
            and a.attname <> 'message_id';
        execute format('create view analyst.%I as select %s from public.%I', name, columns, name);
        execute format('comment on view analyst.%I is %L', name, obj_description(format('public.%I', name)::regclass));
        for item in
            select a.attname, col_description(format('public.%I', name)::regclass, t.attnum) as text
            from pg_attribute a
            join pg_attribute t on t.attrelid = format('public.%I', name)::regclass and t.attname = a.attname
            where a.attrelid = format('analyst.%I', name)::regclass and a.attnum > 0
        loop
            execute format('comment on column analyst.%I.%I is %L', name, item.attname, item.text);
        end loop;
    end loop;
end
$$;
grant select on all tables in schema analyst to analyst;
