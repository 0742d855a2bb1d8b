-- Who rests, who waits in reserve, and what each client could carry on each day.
create table rests (
    client text not null,
    scope text not null,
    name text not null,
    from_at timestamptz not null,
    until timestamptz not null,
    rule text not null,
    policy text not null,
    window_text text not null,
    numerator double precision not null,
    threshold double precision not null,
    said text not null,
    partition integer not null,
    seq bigint not null,
    n integer not null,
    primary key (partition, seq, n)
);
create index rests_sender on rests (client, scope, name, from_at);

create table reserve_moves (
    client text not null,
    mailbox text not null,
    goes_to text not null,
    decided_at timestamptz not null,
    rule text not null,
    policy text not null,
    numerator double precision not null,
    threshold double precision not null,
    said text not null,
    partition integer not null,
    seq bigint not null,
    n integer not null,
    primary key (partition, seq, n)
);
create index reserve_moves_mailbox on reserve_moves (client, mailbox, decided_at);

create table capacity_days (
    client text not null,
    day text not null,
    capacity_mails integer not null,
    demand_mails integer not null,
    mailboxes_in_reserve integer not null,
    mailboxes_resting integer not null,
    reserve_state text not null,
    rule text not null,
    said text not null,
    planned_at timestamptz not null,
    primary key (client, day)
);

comment on table rests is 'Rests of mailboxes and cool-downs of domains.';
comment on column rests.client is 'Client that owns it';
comment on column rests.scope is 'mailbox or domain';
comment on column rests.name is 'The mailbox''s address or the domain';
comment on column rests.from_at is 'When the rest began';
comment on column rests.until is 'When it ends';
comment on column rests.rule is 'Rule that decided it';
comment on column rests.policy is 'Version of the policy that it stands in';
comment on column rests.window_text is 'How long it rests, in words';
comment on column rests.numerator is 'Mails a day that the client could still carry';
comment on column rests.threshold is 'The floor that they may not fall below';
comment on column rests.said is 'What it costs, in words';
comment on column rests.partition is 'Partition of the fleet journal';
comment on column rests.seq is 'Number of the entry';
comment on column rests.n is 'Place in the entry';
comment on table reserve_moves is 'Mailboxes that went into the reserve or joined from it.';
comment on column reserve_moves.client is 'Client that owns it';
comment on column reserve_moves.mailbox is 'Address of the mailbox';
comment on column reserve_moves.goes_to is 'reserve or in_use';
comment on column reserve_moves.decided_at is 'When it was decided';
comment on column reserve_moves.rule is 'Rule that decided it';
comment on column reserve_moves.policy is 'Version of the policy that it stands in';
comment on column reserve_moves.numerator is 'What was counted: mails a day, or mailboxes in reserve';
comment on column reserve_moves.threshold is 'What it was held against';
comment on column reserve_moves.said is 'The mailbox''s record, in words';
comment on column reserve_moves.partition is 'Partition of the fleet journal';
comment on column reserve_moves.seq is 'Number of the entry';
comment on column reserve_moves.n is 'Place in the entry';
comment on table capacity_days is 'What each client could carry on a day against what was wanted.';
comment on column capacity_days.client is 'Client';
comment on column capacity_days.day is 'Local day';
comment on column capacity_days.capacity_mails is 'Mails that its mailboxes could carry on that day';
comment on column capacity_days.demand_mails is 'Mails that were wanted';
comment on column capacity_days.mailboxes_in_reserve is 'Mailboxes in reserve';
comment on column capacity_days.mailboxes_resting is 'Mailboxes at rest';
comment on column capacity_days.reserve_state is 'none, enough, low or exhausted';
comment on column capacity_days.rule is 'Why the reserve is in that state';
comment on column capacity_days.said is 'What is on its way, in words';
comment on column capacity_days.planned_at is 'When it was counted last';

do $$
declare
    name text;
    item record;
begin
    foreach name in array array['rests', 'reserve_moves', 'capacity_days'] loop
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
