-- What happened to every request, send and attempt; and where the projector stands.
create table applied (
    topic text not null,
    partition integer not null,
    topic_id text not null,
    next_offset bigint not null,
    seq bigint not null,
    entry_id text not null,
    primary key (topic, partition)
);
comment on table applied is 'How far each topic partition is applied; written in one transaction with the rows.';
comment on column applied.topic is 'Topic name';
comment on column applied.partition is 'Partition number';
comment on column applied.topic_id is 'Generation of the topic: offsets count within it';
comment on column applied.next_offset is 'Offset of the next record to apply';
comment on column applied.seq is 'Number of the last journal entry that counts (0 for other topics)';
comment on column applied.entry_id is 'Id of that entry';

create table sends (
    client text not null,
    send_id text not null,
    campaign text not null,
    recipient text not null,
    recipient_domain text not null,
    state text not null,
    reason text not null default '',
    attempts integer not null default 0,
    mailbox text,
    route text,
    provider_message_id text,
    requested_at timestamptz not null,
    admitted_at timestamptz not null,
    accepted_at timestamptz,
    ended_at timestamptz,
    changed_at timestamptz not null,
    primary key (client, send_id)
);
comment on table sends is 'One row per admitted send: its state and its last attempt.';
comment on column sends.client is 'Client that owns the send';
comment on column sends.send_id is 'Id chosen by upstream, unique per client';
comment on column sends.campaign is 'Campaign of the client';
comment on column sends.recipient is 'Keyed hash of the address (no address stands here)';
comment on column sends.recipient_domain is 'Domain of the address';
comment on column sends.state is 'admitted, assigned, started, unknown, accepted, delivered, failed, cancelled, expired, refused, assumed_sent';
comment on column sends.reason is 'Why it is in this state: the rule that decided';
comment on column sends.attempts is 'Number of assignments so far';
comment on column sends.mailbox is 'Mailbox of the last attempt';
comment on column sends.route is 'Route of the last attempt';
comment on column sends.provider_message_id is 'What the provider calls the message';
comment on column sends.requested_at is 'When the request reached Kafka';
comment on column sends.admitted_at is 'When it was admitted';
comment on column sends.accepted_at is 'When a provider accepted it';
comment on column sends.ended_at is 'When it came to its end; null while open';
comment on column sends.changed_at is 'When the state last changed';
create index sends_state on sends (state);
create index sends_campaign on sends (client, campaign);

create table refusals (
    journal text not null,
    partition integer not null,
    seq bigint not null,
    n integer not null,
    client text not null,
    send_id text not null,
    reason text not null,
    detail text not null,
    refused_at timestamptz not null,
    primary key (journal, partition, seq, n)
);
comment on table refusals is 'Requests that were refused at admission; an earlier send of that send_id is not touched.';
comment on column refusals.journal is 'Journal that holds the decision';
comment on column refusals.partition is 'Its partition';
comment on column refusals.seq is 'Number of the entry';
comment on column refusals.n is 'Number of the fact in the entry';
comment on column refusals.client is 'Client as the request named it';
comment on column refusals.send_id is 'send_id as the request named it';
comment on column refusals.reason is 'duplicate, suppressed, no_basis, policy, expired, too_old, invalid, too_large';
comment on column refusals.detail is 'One sentence for a person';
comment on column refusals.refused_at is 'When it was refused';
create index refusals_reason on refusals (client, reason);

create table attempts (
    client text not null,
    send_id text not null,
    attempt integer not null,
    mailbox text not null,
    route text not null,
    quota_day text not null,
    rule text not null,
    not_before timestamptz not null,
    not_after timestamptz not null,
    outcome text not null default 'open',
    reply_code integer,
    reply_enhanced text,
    reply_text text,
    reply_class text,
    fault text,
    verdict_rule text,
    what text,
    assigned_at timestamptz not null,
    started_at timestamptz,
    claimed_clock timestamptz,
    settled_at timestamptz,
    primary key (client, send_id, attempt)
);
comment on table attempts is 'One row per try to hand a send to a route.';
comment on column attempts.client is 'Client that owns the send';
comment on column attempts.send_id is 'The send';
comment on column attempts.attempt is 'Number of the attempt, from 1';
comment on column attempts.mailbox is 'Mailbox that carries it';
comment on column attempts.route is 'Route it goes over';
comment on column attempts.quota_day is 'Local day whose quota holds it';
comment on column attempts.rule is 'Why this mailbox at this time';
comment on column attempts.not_before is 'Start of its slot';
comment on column attempts.not_after is 'End of its slot';
comment on column attempts.outcome is 'open, started, accepted, refused, not_sent, missed, unknown';
comment on column attempts.reply_code is 'SMTP reply code or HTTP status';
comment on column attempts.reply_enhanced is 'Enhanced status code (RFC 3463)';
comment on column attempts.reply_text is 'What the server said, without addresses';
comment on column attempts.reply_class is 'What the reply means';
comment on column attempts.fault is 'Whose fault it is: recipient, message, mailbox, domain, route, network';
comment on column attempts.verdict_rule is 'Rule that classified the reply';
comment on column attempts.what is 'What was seen when there was no reply';
comment on column attempts.assigned_at is 'When it was assigned';
comment on column attempts.started_at is 'When the claim was journaled';
comment on column attempts.claimed_clock is 'The clock of the hand that claimed';
comment on column attempts.settled_at is 'When its outcome was journaled';
create index attempts_mailbox_day on attempts (mailbox, quota_day);
create index attempts_outcome on attempts (outcome);

create table dead_letters (
    topic text not null,
    partition integer not null,
    record_offset bigint not null,
    sha256 text not null,
    size_bytes integer not null,
    reason text not null,
    died_at timestamptz not null,
    primary key (topic, partition, record_offset)
);
comment on table dead_letters is 'Records that could not be read: where they stand and why, never their content.';
comment on column dead_letters.topic is 'Topic of the record';
comment on column dead_letters.partition is 'Its partition';
comment on column dead_letters.record_offset is 'Its offset';
comment on column dead_letters.sha256 is 'Hash of its value';
comment on column dead_letters.size_bytes is 'Size of its value in bytes';
comment on column dead_letters.reason is 'Why it could not be read';
comment on column dead_letters.died_at is 'When it was put aside';
