-- A send_id used for two recipients is admitted by both partitions before the fleet stage turns one away.
alter table sends drop constraint sends_pkey;
alter table sends add primary key (client, send_id, recipient);
