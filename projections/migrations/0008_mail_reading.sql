-- How far the mail reader is in each mailbox, and which mailboxes it cannot read.
create table mailbox_reading (
    mailbox text primary key,
    client text not null,
    folder text not null default '',
    uid_validity bigint not null default 0,
    last_uid bigint not null default 0,
    told_at timestamptz,
    unreadable_since timestamptz,
    unreadable_why text not null default ''
);
comment on table mailbox_reading is 'One row per mailbox that the mail reader reads: how far, and since when it cannot.';
comment on column mailbox_reading.mailbox is 'Address of the mailbox';
comment on column mailbox_reading.client is 'Client that owns it';
comment on column mailbox_reading.folder is 'Folder that is read';
comment on column mailbox_reading.uid_validity is 'UIDVALIDITY of the folder, under which last_uid means something';
comment on column mailbox_reading.last_uid is 'UID of the last message that was read';
comment on column mailbox_reading.told_at is 'When the reader last said so: at each new message, else once a day';
comment on column mailbox_reading.unreadable_since is 'Since when it cannot be read; null while it can';
comment on column mailbox_reading.unreadable_why is 'What the server said, or what is missing';

create view analyst.mailbox_reading as select * from public.mailbox_reading;
do $$
declare
    item record;
begin
    execute format('comment on view analyst.mailbox_reading is %L', obj_description('public.mailbox_reading'::regclass));
    for item in
        select a.attname, col_description(a.attrelid, a.attnum) as text
        from pg_attribute a
        where a.attrelid = 'public.mailbox_reading'::regclass and a.attnum > 0 and not a.attisdropped
    loop
        execute format('comment on column analyst.mailbox_reading.%I is %L', item.attname, item.text);
    end loop;
end
$$;
grant select on analyst.mailbox_reading to analyst;
