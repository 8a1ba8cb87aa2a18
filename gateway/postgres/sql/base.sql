-- version: 1
-- What all families share: messages between nodes, and the leases by which nodes own what they write.
-- Tables without log hold what nodes write again after a crash of the server.

-- Apart from the tables: the sequence of one without log is spoilt on a promoted standby (PostgreSQL 15.18).
CREATE SEQUENCE IF NOT EXISTS gateway_numbers;

CREATE UNLOGGED TABLE IF NOT EXISTS gateway_messages (
  id bigint PRIMARY KEY DEFAULT nextval('gateway_numbers'),
  message bytea NOT NULL,
  written timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE UNLOGGED TABLE IF NOT EXISTS gateway_owners (
  family text COLLATE "C",
  owner text COLLATE "C",
  until timestamptz NOT NULL,
  sweeper text,
  swept timestamptz,  -- when the sweeper was last at it; from the first time on the owner is no more
  told boolean NOT NULL DEFAULT false,
  PRIMARY KEY (family, owner)
) WITH (fillfactor = 50);

CREATE UNLOGGED TABLE IF NOT EXISTS gateway_hearing (
  topic text COLLATE "C",
  owner text COLLATE "C",
  PRIMARY KEY (topic, owner)
);
CREATE INDEX IF NOT EXISTS gateway_hearing_owner_index ON gateway_hearing (owner);

-- A notification is records: the length of the topic (4 bytes), the topic, the length of the message, the message;
-- instead of a long message the length -1 and the id under which it lies (8 bytes).
CREATE OR REPLACE FUNCTION gateway_record(p_topic text, p_message bytea) RETURNS bytea LANGUAGE plpgsql AS $$
DECLARE
  name bytea := convert_to(p_topic, 'UTF8');
  head bytea := int4send(octet_length(name)) || name;
  number bigint;
BEGIN
  IF octet_length(head) + octet_length(p_message) <= 5600 THEN
    RETURN head || int4send(octet_length(p_message)) || p_message;
  END IF;
  INSERT INTO gateway_messages (message) VALUES (p_message) RETURNING id INTO number;
  RETURN head || int4send(-1) || int8send(number);
END $$;

-- Have the nodes told when the transaction commits. PostgreSQL drops a notification that is equal to another one of
-- the same transaction, hence the number before it.
CREATE OR REPLACE FUNCTION gateway_notify(p_records bytea) RETURNS void LANGUAGE sql AS $$
  SELECT pg_notify('gateway_news', nextval('gateway_numbers') || ':' || encode(p_records, 'base64'))
$$;

-- Tell messages that are kept nowhere.
CREATE OR REPLACE FUNCTION gateway_tell(p_topics text[], p_messages bytea[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  news bytea;
  records bytea := '';
BEGIN
  FOR i IN 1 .. cardinality(p_topics) LOOP
    news := gateway_record(p_topics[i], p_messages[i]);
    IF octet_length(records) + octet_length(news) > 5700 THEN
      PERFORM gateway_notify(records);
      records := '';
    END IF;
    records := records || news;
  END LOOP;
  PERFORM gateway_notify(records);
END $$;

-- How many nodes hear a topic.
CREATE OR REPLACE FUNCTION gateway_hearers(p_topic text) RETURNS int LANGUAGE sql STABLE AS $$
  SELECT count(*)::int FROM gateway_hearing h
  JOIN gateway_owners o ON o.family = 'hearing' AND o.owner = h.owner AND o.until > clock_timestamp()
  WHERE h.topic = p_topic
$$;

-- Renew a lease; answers whether it is still held. A swept owner never comes back under its name.
CREATE OR REPLACE FUNCTION gateway_renew(p_family text, p_owner text, p_lease interval) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
  UPDATE gateway_owners SET until = clock_timestamp() + p_lease
  WHERE family = p_family AND owner = p_owner AND swept IS NULL;
  RETURN FOUND;
END $$;

-- Whether an owner may write now, which nobody can change before the transaction ends.
CREATE OR REPLACE FUNCTION gateway_owns(p_family text, p_owner text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  PERFORM FROM gateway_owners WHERE family = p_family AND owner = p_owner AND swept IS NULL FOR KEY SHARE;
  RETURN FOUND;
END $$;

-- Mark an owner whose lease has ended as swept; answers whether its entries may be removed by this sweeper.
CREATE OR REPLACE FUNCTION gateway_condemn(p_family text, p_owner text, p_sweeper text) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
  UPDATE gateway_owners SET sweeper = p_sweeper, swept = clock_timestamp()
  WHERE family = p_family AND owner IN (
    SELECT o.owner FROM gateway_owners o WHERE o.family = p_family AND o.owner = p_owner
      AND o.until < clock_timestamp() AND NOT o.told
      AND (o.swept IS NULL OR o.sweeper = p_sweeper OR o.swept < clock_timestamp() - interval '5s')
    FOR UPDATE SKIP LOCKED);
  RETURN FOUND;
END $$;

-- Have it that nodes hear topics, or not any more; NULL if the owner is no more.
CREATE OR REPLACE FUNCTION gateway_hear(p_owner text, p_topics text[], p_hears boolean[]) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
  IF NOT gateway_owns('hearing', p_owner) THEN RETURN NULL; END IF;
  DELETE FROM gateway_hearing WHERE owner = p_owner
    AND topic IN (SELECT t.topic FROM unnest(p_topics, p_hears) AS t (topic, hears) WHERE NOT t.hears);
  INSERT INTO gateway_hearing SELECT t.topic, p_owner FROM unnest(p_topics, p_hears) AS t (topic, hears) WHERE t.hears
  ON CONFLICT DO NOTHING;
  RETURN true;
END $$;
