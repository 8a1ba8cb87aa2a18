-- version: 2
-- Publishing by SQL: for programs, inside their own transactions.

-- How channels keep their streams, for those who publish by SQL: the first pattern that matches holds.
CREATE TABLE IF NOT EXISTS gateway_rules (
  place int PRIMARY KEY,
  pattern text NOT NULL,
  history_size int NOT NULL,
  history_ttl interval NOT NULL,
  history_meta_ttl interval NOT NULL
);

-- How channels keep their streams, as the node that started last knows it.
CREATE OR REPLACE FUNCTION gateway_set_rules(
  p_patterns text[], p_sizes int[], p_ttls interval[], p_meta_ttls interval[]
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(hashtext('gateway_news'), 3);
  DELETE FROM gateway_rules;
  INSERT INTO gateway_rules SELECT r.n, r.a, r.b, r.c, r.d
  FROM unnest(p_patterns, p_sizes, p_ttls, p_meta_ttls) WITH ORDINALITY AS r (a, b, c, d, n);
END $$;

CREATE OR REPLACE FUNCTION gateway_packed_text(p_text text) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
  SELECT '\xdb'::bytea || int4send(octet_length(convert_to(p_text, 'UTF8'))) || convert_to(p_text, 'UTF8')
$$;

-- A publication as nodes pack it: a map in MessagePack.
CREATE OR REPLACE FUNCTION gateway_packed_publication(
  p_data bytea, p_binary boolean, p_tags jsonb, p_version bigint
) RETURNS bytea
LANGUAGE sql VOLATILE AS $$
  SELECT set_byte('\x80'::bytea, 0, 130 + p_binary::int + (p_tags IS NOT NULL)::int + (p_version > 0)::int)
    || gateway_packed_text('data') || '\xc6'::bytea || int4send(octet_length(p_data)) || p_data
    || gateway_packed_text('time') || '\xcf'::bytea || int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint)
    || CASE WHEN p_binary THEN gateway_packed_text('binary') || '\xc3'::bytea ELSE '' END
    || CASE WHEN p_version > 0 THEN gateway_packed_text('version') || '\xcf'::bytea || int8send(p_version) ELSE '' END
    || CASE WHEN p_tags IS NULL THEN '' ELSE gateway_packed_text('tags') || (
      SELECT '\xdf'::bytea || int4send(count(*)::int)
        || coalesce(string_agg(gateway_packed_text(t.key) || gateway_packed_text(t.value), ''), '')
      FROM jsonb_each_text(p_tags) t) END
$$;

CREATE OR REPLACE FUNCTION gateway_publish_bytes(
  p_channel text, p_data bytea, p_binary boolean, p_tags jsonb, p_idempotency_key text,
  p_version bigint, p_version_epoch text
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  rule gateway_rules;
  packed bytea := gateway_packed_publication(p_data, p_binary, p_tags, p_version);
  kept boolean;
  answer bigint;
BEGIN
  SELECT * INTO rule FROM gateway_rules WHERE p_channel ~ pattern ORDER BY place LIMIT 1;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'gateway: unknown channel "%"', p_channel
      USING HINT = 'name one whose namespace or route the gateway knows, for example chat:lobby';
  END IF;
  kept := rule.history_size > 0 AND rule.history_ttl > interval '0';
  SELECT m.top INTO answer FROM gateway_publish_many(
    ARRAY['c' || p_channel], ARRAY[CASE WHEN kept THEN packed ELSE '1p0::'::bytea || packed END],
    ARRAY[CASE WHEN kept THEN rule.history_size ELSE 0 END],
    ARRAY[rule.history_ttl], ARRAY[rule.history_meta_ttl], ARRAY[p_version], ARRAY[p_version_epoch],
    ARRAY[p_idempotency_key], ARRAY[interval '300s'], ARRAY['']) m;
  RETURN answer;
END $$;

-- Publish JSON; answers the offset, 0 where the channel keeps no history. Nobody sees it before the transaction
-- commits, and nobody if it does not. Others who publish to the channel wait until then.
CREATE OR REPLACE FUNCTION gateway_publish(
  p_channel text, p_data jsonb, p_idempotency_key text DEFAULT '', p_tags jsonb DEFAULT NULL,
  p_version bigint DEFAULT 0, p_version_epoch text DEFAULT ''
) RETURNS bigint LANGUAGE sql VOLATILE AS $$
  SELECT gateway_publish_bytes(
    p_channel, convert_to(p_data::text, 'UTF8'), false, p_tags, p_idempotency_key, p_version, p_version_epoch)
$$;

-- The same for data that is no JSON.
CREATE OR REPLACE FUNCTION gateway_publish_binary(
  p_channel text, p_data bytea, p_idempotency_key text DEFAULT '', p_tags jsonb DEFAULT NULL,
  p_version bigint DEFAULT 0, p_version_epoch text DEFAULT ''
) RETURNS bigint LANGUAGE sql VOLATILE AS $$
  SELECT gateway_publish_bytes(p_channel, p_data, true, p_tags, p_idempotency_key, p_version, p_version_epoch)
$$;
