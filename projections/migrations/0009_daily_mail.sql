-- Counts for dashboards, so that none scans millions of sends; and indexes for what they list.
alter table sends add column receiver text not null default '';
comment on column sends.receiver is 'Receiving provider, empty when it was not looked up';
create or replace view analyst.sends as select * from sends;
comment on column analyst.sends.receiver is 'Receiving provider, empty when it was not looked up';

create table daily_mail (
    day date not null,
    client text not null,
    campaign text not null,
    domain text not null,
    mailbox text not null,
    route text not null,
    receiver text not null,
    assigned integer not null default 0,
    accepted integer not null default 0,
    refused integer not null default 0,
    deferred integer not null default 0,
    not_sent integer not null default 0,
    missed integer not null default 0,
    unknown integer not null default 0,
    assumed_sent integer not null default 0,
    delivered integer not null default 0,
    hard_bounced integer not null default 0,
    soft_bounced integer not null default 0,
    returned integer not null default 0,
    complained integer not null default 0,
    unsubscribed integer not null default 0,
    replied integer not null default 0,
    primary key (day, client, mailbox, route, campaign, receiver)
) with (fillfactor = 80);
comment on table daily_mail is 'Mails by day, client, campaign, domain, mailbox, route and receiver: sum the counts, then divide.';
comment on column daily_mail.day is 'Local day on which the mail was assigned; what comes of it later counts on this day too';
comment on column daily_mail.client is 'Client that owns the mailbox';
comment on column daily_mail.campaign is 'Campaign of the client';
comment on column daily_mail.domain is 'Sending domain';
comment on column daily_mail.mailbox is 'Mailbox that carried it';
comment on column daily_mail.route is 'Route it went over';
comment on column daily_mail.receiver is 'Receiving provider, empty when it was not looked up';
comment on column daily_mail.assigned is 'Attempts that were planned for this day';
comment on column daily_mail.accepted is 'Attempts that a provider took';
comment on column daily_mail.refused is 'Attempts that got a definite no';
comment on column daily_mail.deferred is 'Attempts that were put off: later, please';
comment on column daily_mail.not_sent is 'Attempts of which provably nothing left';
comment on column daily_mail.missed is 'Attempts whose slot ended before they began';
comment on column daily_mail.unknown is 'Attempts whose outcome could not be known at first';
comment on column daily_mail.assumed_sent is 'Of the unknown: without evidence in 24 h, counted as sent';
comment on column daily_mail.delivered is 'Accepted and no bounce within 48 h, or the provider says so';
comment on column daily_mail.hard_bounced is 'The address will never work: said at once or after the 250';
comment on column daily_mail.soft_bounced is 'Bounces after the 250 for another reason';
comment on column daily_mail.returned is 'Given back by the provider after its 250, not the recipient''s fault: goes again';
comment on column daily_mail.complained is 'Recipients who called it spam';
comment on column daily_mail.unsubscribed is 'Recipients who unsubscribed';
comment on column daily_mail.replied is 'Sends that a person answered, however often';
create index daily_mail_client on daily_mail (client, day);
create index daily_mail_mailbox on daily_mail (mailbox, day);
create index daily_mail_domain on daily_mail (domain, day);

create index refusals_when on refusals (refused_at);
create index attempts_refused on attempts (settled_at) where outcome = 'refused';
create index bounces_when on bounces (bounced_at);
create index complaints_when on complaints (complained_at);
create index replies_when on replies (replied_at);
create index decisions_when on decisions (decided_at);
create index suppressions_when on suppressions (since);
create index sends_unsent on sends (ended_at) where state in ('failed', 'cancelled', 'expired', 'refused');

create index sends_send on sends ((client || '/' || send_id));

create view analyst.daily_mail as select * from daily_mail;

create view analyst.mails_by_day as
    select
        day, client,
        sum(assigned) as assigned,
        sum(accepted) as accepted,
        sum(refused) as refused,
        sum(deferred) as deferred,
        sum(not_sent) as not_sent,
        sum(missed) as missed,
        sum(unknown) as unknown,
        sum(assumed_sent) as assumed_sent,
        sum(delivered) as delivered,
        sum(hard_bounced) as hard_bounced,
        sum(soft_bounced) as soft_bounced,
        sum(returned) as returned,
        sum(complained) as complained,
        sum(unsubscribed) as unsubscribed,
        sum(replied) as replied
    from daily_mail
    group by day, client;
comment on view analyst.mails_by_day is 'Mails of each client by day: sum the counts, then divide.';

create view analyst.mails_by_campaign as
    select
        day, client, campaign,
        sum(assigned) as assigned,
        sum(accepted) as accepted,
        sum(refused) as refused,
        sum(deferred) as deferred,
        sum(not_sent) as not_sent,
        sum(missed) as missed,
        sum(unknown) as unknown,
        sum(assumed_sent) as assumed_sent,
        sum(delivered) as delivered,
        sum(hard_bounced) as hard_bounced,
        sum(soft_bounced) as soft_bounced,
        sum(returned) as returned,
        sum(complained) as complained,
        sum(unsubscribed) as unsubscribed,
        sum(replied) as replied
    from daily_mail
    group by day, client, campaign;
comment on view analyst.mails_by_campaign is 'Mails of each campaign by day.';

create view analyst.mails_by_domain as
    select
        day, client, domain,
        sum(assigned) as assigned,
        sum(accepted) as accepted,
        sum(refused) as refused,
        sum(deferred) as deferred,
        sum(not_sent) as not_sent,
        sum(missed) as missed,
        sum(unknown) as unknown,
        sum(assumed_sent) as assumed_sent,
        sum(delivered) as delivered,
        sum(hard_bounced) as hard_bounced,
        sum(soft_bounced) as soft_bounced,
        sum(returned) as returned,
        sum(complained) as complained,
        sum(unsubscribed) as unsubscribed,
        sum(replied) as replied
    from daily_mail
    group by day, client, domain;
comment on view analyst.mails_by_domain is 'Mails of each sending domain by day.';

create view analyst.mails_by_mailbox as
    select
        day, client, domain, mailbox,
        sum(assigned) as assigned,
        sum(accepted) as accepted,
        sum(refused) as refused,
        sum(deferred) as deferred,
        sum(not_sent) as not_sent,
        sum(missed) as missed,
        sum(unknown) as unknown,
        sum(assumed_sent) as assumed_sent,
        sum(delivered) as delivered,
        sum(hard_bounced) as hard_bounced,
        sum(soft_bounced) as soft_bounced,
        sum(returned) as returned,
        sum(complained) as complained,
        sum(unsubscribed) as unsubscribed,
        sum(replied) as replied
    from daily_mail
    group by day, client, domain, mailbox;
comment on view analyst.mails_by_mailbox is 'Mails of each mailbox by day.';

create view analyst.mails_by_receiver as
    select
        day, client, receiver,
        sum(assigned) as assigned,
        sum(accepted) as accepted,
        sum(refused) as refused,
        sum(deferred) as deferred,
        sum(not_sent) as not_sent,
        sum(missed) as missed,
        sum(unknown) as unknown,
        sum(assumed_sent) as assumed_sent,
        sum(delivered) as delivered,
        sum(hard_bounced) as hard_bounced,
        sum(soft_bounced) as soft_bounced,
        sum(returned) as returned,
        sum(complained) as complained,
        sum(unsubscribed) as unsubscribed,
        sum(replied) as replied
    from daily_mail
    group by day, client, receiver;
comment on view analyst.mails_by_receiver is 'Mails to each receiving provider by day.';

create view analyst.mails_by_route as
    select
        m.day, m.client, m.route, coalesce(r.provider, '') as provider,
        sum(m.assigned) as assigned,
        sum(m.accepted) as accepted,
        sum(m.refused) as refused,
        sum(m.deferred) as deferred,
        sum(m.not_sent) as not_sent,
        sum(m.missed) as missed,
        sum(m.unknown) as unknown,
        sum(m.assumed_sent) as assumed_sent,
        sum(m.delivered) as delivered,
        sum(m.hard_bounced) as hard_bounced,
        sum(m.soft_bounced) as soft_bounced,
        sum(m.returned) as returned,
        sum(m.complained) as complained,
        sum(m.unsubscribed) as unsubscribed,
        sum(m.replied) as replied
    from daily_mail m left join routes r on r.client = m.client and r.route = m.route
    group by m.day, m.client, m.route, r.provider;
comment on view analyst.mails_by_route is 'Mails of each route by day, with its provider.';

-- One column, one meaning: the views say of each what the table says.
do $$
declare
    item record;
begin
    for item in
        select c.relname, a.attname, col_description('daily_mail'::regclass, t.attnum) as text
        from pg_class c
        join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
        join pg_attribute t on t.attrelid = 'daily_mail'::regclass and t.attname = a.attname
        where c.relnamespace = 'analyst'::regnamespace and (c.relname = 'daily_mail' or c.relname like 'mails\_by\_%')
    loop
        execute format('comment on column analyst.%I.%I is %L', item.relname, item.attname, item.text);
    end loop;
end
$$;
comment on view analyst.daily_mail is 'Mails by day, client, campaign, domain, mailbox, route and receiver: sum the counts, then divide.';
comment on column analyst.mails_by_route.provider is 'Adapter of the route: smtp, zoho, mailgun, ses, memory';
-- A key of one column, by which tools join what is about the same send.
do $$
declare
    name text;
    columns text;
begin
    foreach name in array array['sends', 'attempts', 'bounces', 'complaints', 'replies', 'waiting'] loop
        select string_agg(format('%I', attname), ', ' order by attnum) into columns
        from pg_attribute where attrelid = format('analyst.%I', name)::regclass and attnum > 0;
        execute format('create or replace view analyst.%I as select %s, client || ''/'' || send_id as send from public.%I',
            name, columns, name);
        execute format('comment on column analyst.%I.send is %L', name, 'The send in one word, client/send_id: joins views');
    end loop;
end
$$;
grant select on all tables in schema analyst to analyst;
