-- version: 1
-- Members of channels. Each belongs to an owner: a node, in one of its incarnations.

CREATE UNLOGGED TABLE IF NOT EXISTS gateway_members (
  channel text COLLATE "C",
  client text COLLATE "C",
  number bigint NOT NULL DEFAULT nextval('gateway_numbers'),
  owner text COLLATE "C" NOT NULL,
  user_id text NOT NULL,
  payloads bytea NOT NULL,
  PRIMARY KEY (channel, client)
);
CREATE INDEX IF NOT EXISTS gateway_members_owner_index ON gateway_members (owner);
CREATE INDEX IF NOT EXISTS gateway_members_number_index ON gateway_members (channel, number);

-- Have it that members are there, or are not where the payloads are NULL. Answers which of these were there, counted
-- from 1, or NULL if the owner is no more.
CREATE OR REPLACE FUNCTION gateway_write_members(
  p_owner text, p_channels text[], p_clients text[], p_users text[], p_payloads bytea[]
) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
  found_members bigint[];
BEGIN
  IF NOT gateway_owns('presence', p_owner) THEN RETURN NULL; END IF;
  WITH gone AS (
    DELETE FROM gateway_members m USING unnest(p_channels, p_clients, p_payloads) WITH ORDINALITY AS g (a, b, c, n)
    WHERE m.channel = g.a AND m.client = g.b AND g.c IS NULL RETURNING g.n
  ) SELECT coalesce(array_agg(n), '{}') INTO found_members FROM gone;
  INSERT INTO gateway_members (channel, client, owner, user_id, payloads)
  SELECT g.a, g.b, p_owner, g.c, g.d FROM unnest(p_channels, p_clients, p_users, p_payloads) AS g (a, b, c, d)
  WHERE g.d IS NOT NULL
  ON CONFLICT (channel, client) DO UPDATE
  SET owner = excluded.owner, user_id = excluded.user_id, payloads = excluded.payloads;
  RETURN found_members;
END $$;

-- Members on nodes that live.
CREATE OR REPLACE VIEW gateway_present AS
  SELECT m.* FROM gateway_members m
  WHERE m.owner IN (SELECT o.owner FROM gateway_owners o WHERE o.family = 'presence' AND o.until > clock_timestamp());
