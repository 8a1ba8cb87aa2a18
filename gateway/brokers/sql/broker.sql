-- version: 1
-- Streams: a channel's epoch and top, and its publications, of which those up to the floor are gone.

CREATE TABLE IF NOT EXISTS gateway_streams (
  channel text COLLATE "C" PRIMARY KEY,
  epoch text NOT NULL,
  timeline text NOT NULL,
  top bigint NOT NULL DEFAULT 0,
  floor bigint NOT NULL DEFAULT 0,
  trimmed bigint NOT NULL DEFAULT 0,
  version bigint NOT NULL DEFAULT 0,
  version_epoch text NOT NULL DEFAULT '',
  former_epochs text[] NOT NULL DEFAULT '{}',  -- under which the same stream went on other timelines, and up to where
  former_tops bigint[] NOT NULL DEFAULT '{}',
  kept_until timestamptz NOT NULL,
  expires timestamptz NOT NULL
) WITH (fillfactor = 50);  -- room for each row's next state on its page, so that no index is written

CREATE TABLE IF NOT EXISTS gateway_publications (
  channel text COLLATE "C",
  "offset" bigint,
  data bytea NOT NULL,
  PRIMARY KEY (channel, "offset")
) WITH (autovacuum_vacuum_scale_factor = 0.05);

CREATE TABLE IF NOT EXISTS gateway_results (
  channel text COLLATE "C",
  key text COLLATE "C",
  top bigint,
  epoch text,
  nodes int,
  expires timestamptz NOT NULL,
  PRIMARY KEY (channel, key)
);

-- What epochs of new streams are made of, beside the name; another one whenever a stream has gone. So a reader can say
-- the epoch of a stream whose first publication is not committed yet.
CREATE TABLE IF NOT EXISTS gateway_seed (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  seed uuid NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO gateway_seed DEFAULT VALUES ON CONFLICT DO NOTHING;

CREATE OR REPLACE FUNCTION gateway_first_epoch(p_channel text) RETURNS text LANGUAGE sql STABLE AS $$
  SELECT left(md5(s.seed || p_channel), 8) FROM gateway_seed s
$$;

CREATE OR REPLACE FUNCTION gateway_new_epoch() RETURNS text LANGUAGE sql VOLATILE AS $$
  SELECT encode(substr(uuid_send(gen_random_uuid()), 1, 4), 'hex')
$$;

-- The server's timeline, which is another one after a failover or a recovery to a point in time. A promoted server may
-- lack what has been accepted, so that its streams go on under other epochs; what was seen of the former ones up to
-- where they ended here is part of them.
CREATE OR REPLACE FUNCTION gateway_timeline() RETURNS text LANGUAGE sql STABLE AS $$
  SELECT substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)
$$;

-- Lock a channel's stream until the end of the transaction: offsets are then in the order of commits. Makes the stream
-- if there is none, and anew if it has expired. What it lasts is for whoever writes it to say. Epochs are few: each is a
-- failover.
CREATE OR REPLACE FUNCTION gateway_lock_stream(p_channel text, p_timeline text) RETURNS gateway_streams
LANGUAGE plpgsql AS $$
DECLARE
  found_stream gateway_streams;
BEGIN
  LOOP
    SELECT * INTO found_stream FROM gateway_streams WHERE channel = p_channel FOR NO KEY UPDATE;
    IF FOUND THEN
      IF found_stream.expires > clock_timestamp() AND found_stream.timeline = p_timeline THEN
        RETURN found_stream;
      END IF;
      IF found_stream.expires > clock_timestamp() THEN
        UPDATE gateway_streams SET epoch = gateway_new_epoch(), timeline = p_timeline,
          former_epochs = former_epochs || epoch, former_tops = former_tops || top
        WHERE channel = p_channel RETURNING * INTO found_stream;
        RETURN found_stream;
      END IF;
      DELETE FROM gateway_publications WHERE channel = p_channel;
      UPDATE gateway_streams SET epoch = gateway_new_epoch(), timeline = p_timeline, top = 0, floor = 0, trimmed = 0,
        version = 0, version_epoch = '', former_epochs = '{}', former_tops = '{}',
        kept_until = clock_timestamp(), expires = clock_timestamp() + interval '60s'
      WHERE channel = p_channel RETURNING * INTO found_stream;
      RETURN found_stream;
    END IF;
    INSERT INTO gateway_streams (channel, epoch, timeline, kept_until, expires)
    VALUES (p_channel, gateway_first_epoch(p_channel), p_timeline, clock_timestamp(), clock_timestamp() + interval '60s')
    ON CONFLICT DO NOTHING;
  END LOOP;
END $$;

-- Write a stream's state back with what was added to it, and remove what lies below its floor, some at a time.
CREATE OR REPLACE FUNCTION gateway_write_stream(
  s gateway_streams, p_slack int, p_offsets bigint[], p_messages bytea[]
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO gateway_publications SELECT s.channel, added.number, added.message
  FROM unnest(p_offsets, p_messages) AS added (number, message) WHERE added.number > s.floor;
  IF s.floor - s.trimmed >= p_slack THEN
    DELETE FROM gateway_publications WHERE channel = s.channel AND "offset" <= s.floor;
    s.trimmed := s.floor;
  END IF;
  UPDATE gateway_streams SET top = s.top, floor = s.floor, trimmed = s.trimmed, version = s.version,
    version_epoch = s.version_epoch, kept_until = s.kept_until, expires = s.expires
  WHERE channel = s.channel;
END $$;

-- Store and publish, as one act with whatever else the transaction does. Topics are "c" and the channel; those of one
-- channel come together, with a size where it keeps history. Messages are those of the envelope, publications with
-- history without their head. Answers in the same order; nodes are -1 where the fence is not that of the lease.
CREATE OR REPLACE FUNCTION gateway_publish_many(
  p_topics text[], p_messages bytea[], p_sizes int[], p_ttls interval[], p_meta_ttls interval[],
  p_versions bigint[], p_version_epochs text[], p_keys text[], p_key_ttls interval[], p_fences text[],
  p_patience text DEFAULT NULL
) RETURNS TABLE (top bigint, epoch text, nodes int) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  stream gateway_streams;
  locked text := '';  -- the topic whose stream is locked
  slack int;
  offsets bigint[];
  stored bytea[];
  now_timeline text;
  counted text := '';  -- the topic whose hearers are counted
  hearers int;
  topic text;
  name text;
  once text;
  moment timestamptz;
  news bytea;
  records bytea := '';
  answer_top bigint;
  answer_epoch text;
  answer_nodes int;
BEGIN
  IF p_patience IS NOT NULL THEN PERFORM set_config('lock_timeout', p_patience, true); END IF;
  FOR i IN 1 .. cardinality(p_topics) LOOP
    topic := p_topics[i];
    name := substr(topic, 2);
    once := p_keys[i];
    top := 0;
    epoch := '';
    nodes := 0;
    news := NULL;

    IF p_fences[i] <> '' THEN
      PERFORM FROM gateway_leases l
      WHERE l.name = substr(p_topics[i], 2) AND l.fence = p_fences[i] AND l.until > clock_timestamp() FOR SHARE;
      IF NOT FOUND THEN
        nodes := -1;
        RETURN NEXT;
        CONTINUE;
      END IF;
    END IF;

    IF once <> '' THEN
      INSERT INTO gateway_results AS r VALUES (name, once, 0, '', 0, clock_timestamp() + p_key_ttls[i])
      ON CONFLICT (channel, key) DO UPDATE
      SET top = 0, epoch = '', nodes = 0, expires = excluded.expires WHERE r.expires <= clock_timestamp();
      IF NOT FOUND THEN
        SELECT r.top, r.epoch, r.nodes INTO top, epoch, nodes FROM gateway_results r
        WHERE r.channel = name AND r.key = once;
        RETURN NEXT;
        CONTINUE;
      END IF;
    END IF;

    IF topic <> counted THEN
      hearers := gateway_hearers(topic);
      counted := topic;
    END IF;

    IF p_sizes[i] = 0 THEN
      nodes := hearers;
      news := p_messages[i];
    ELSE
      IF topic <> locked THEN
        IF locked <> '' THEN PERFORM gateway_write_stream(stream, slack, offsets, stored); END IF;
        now_timeline := coalesce(now_timeline, gateway_timeline());
        stream := gateway_lock_stream(name, now_timeline);
        locked := topic;
        slack := 1 + p_sizes[i] / 8;
        offsets := '{}';
        stored := '{}';
      END IF;
      epoch := stream.epoch;
      IF p_versions[i] > 0 AND stream.version >= p_versions[i] AND p_version_epochs[i] IN ('', stream.version_epoch) THEN
        top := stream.top;
      ELSE
        moment := clock_timestamp();
        IF stream.kept_until <= moment THEN stream.floor := stream.top; END IF;
        stream.top := stream.top + 1;
        stream.floor := greatest(stream.floor, stream.top - p_sizes[i]);
        stream.version := p_versions[i];
        stream.version_epoch := p_version_epochs[i];
        stream.kept_until := moment + p_ttls[i];
        stream.expires := moment + p_meta_ttls[i];
        offsets := offsets || stream.top;
        stored := stored || p_messages[i];
        top := stream.top;
        nodes := hearers;
        news := convert_to('1p' || top || ':' || epoch || ':', 'UTF8') || p_messages[i];
      END IF;
    END IF;

    IF once <> '' THEN
      answer_top := top;
      answer_epoch := epoch;
      answer_nodes := nodes;
      UPDATE gateway_results r SET top = answer_top, epoch = answer_epoch, nodes = answer_nodes
      WHERE r.channel = name AND r.key = once;
    END IF;
    IF news IS NOT NULL THEN
      news := gateway_record(topic, news);
      IF octet_length(records) + octet_length(news) > 5700 THEN
        PERFORM gateway_notify(records);
        records := '';
      END IF;
      records := records || news;
    END IF;
    RETURN NEXT;
  END LOOP;

  IF locked <> '' THEN PERFORM gateway_write_stream(stream, slack, offsets, stored); END IF;
  IF records <> '' THEN PERFORM gateway_notify(records); END IF;
END $$;

-- Read parts of streams, and their tops; makes the epoch of a stream that nobody has published to. Usually writes
-- nothing, and does not wait for those who publish.
CREATE OR REPLACE FUNCTION gateway_history_many(
  p_channels text[], p_limits int[], p_since bigint[], p_reverse boolean[], p_meta_ttls interval[],
  p_unpublished interval[]
) RETURNS TABLE (
  top bigint, epoch text, offsets bigint[], messages bytea[], former_epochs text[], former_tops bigint[]
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  now_timeline text := gateway_timeline();
  life interval;
  left_over interval;
BEGIN
  PERFORM set_config('lock_timeout', '20ms', true);
  FOR i IN 1 .. cardinality(p_channels) LOOP
    SELECT CASE WHEN s.timeline = now_timeline THEN s.expires - clock_timestamp() END,
      CASE WHEN s.top > 0 THEN p_meta_ttls[i] ELSE p_unpublished[i] END
    INTO left_over, life FROM gateway_streams s WHERE s.channel = p_channels[i];
    IF left_over IS NULL OR left_over <= interval '0' THEN
      BEGIN
        PERFORM gateway_lock_stream(p_channels[i], now_timeline);
      EXCEPTION WHEN lock_not_available THEN  -- by who publishes first, in a transaction of his own
        top := 0;
        epoch := gateway_first_epoch(p_channels[i]);
        offsets := NULL;
        messages := NULL;
        former_epochs := '{}';
        former_tops := '{}';
        RETURN NEXT;
        CONTINUE;
      END;
    END IF;
    IF left_over IS NULL OR left_over < life / 2 THEN
      UPDATE gateway_streams s SET expires = greatest(s.expires, clock_timestamp() + p_unpublished[i],
        CASE WHEN s.top > 0 THEN clock_timestamp() + p_meta_ttls[i] END)
      WHERE s.channel IN (SELECT f.channel FROM gateway_streams f WHERE f.channel = p_channels[i]
        FOR NO KEY UPDATE SKIP LOCKED);
    END IF;
    RETURN QUERY
      SELECT s.top, s.epoch, part.offsets, part.messages, s.former_epochs, s.former_tops FROM gateway_streams s,
      LATERAL (
        SELECT array_agg(p."offset") AS offsets, array_agg(p.data) AS messages FROM (
          (SELECT q."offset", q.data FROM gateway_publications q
            WHERE NOT p_reverse[i] AND p_limits[i] <> 0 AND s.kept_until > clock_timestamp() AND q.channel = s.channel
              AND q."offset" > greatest(s.floor, p_since[i]) AND q."offset" <= s.top
            ORDER BY q."offset" LIMIT nullif(p_limits[i], -1))
          UNION ALL
          (SELECT q."offset", q.data FROM gateway_publications q
            WHERE p_reverse[i] AND p_limits[i] <> 0 AND s.kept_until > clock_timestamp() AND q.channel = s.channel
              AND q."offset" > s.floor AND q."offset" <= s.top
              AND (p_since[i] IS NULL OR q."offset" < p_since[i] AND p_since[i] <= s.top)
            ORDER BY q."offset" DESC LIMIT nullif(p_limits[i], -1))
        ) p
      ) part
      WHERE s.channel = p_channels[i];
  END LOOP;
END $$;

-- Which positions are not the tops of their streams, counted from 1; sees that the streams' epochs last. A stream that
-- ends before a position of its own epoch has lost publications: it gets a new epoch. Usually writes nothing.
CREATE OR REPLACE FUNCTION gateway_verify_many(
  p_channels text[], p_offsets bigint[], p_epochs text[], p_holds interval[], p_meta_ttls interval[]
) RETURNS SETOF int LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  now_timeline text := gateway_timeline();
  each record;
BEGIN
  FOR each IN
    SELECT c.n::int AS place, c.channel, c.at, s.top, s.expires - clock_timestamp() AS left_over,
      s.channel IS NULL OR s.expires <= clock_timestamp() OR s.timeline <> now_timeline AS gone,
      coalesce(c.epoch IN ('', s.epoch), false) AS same, coalesce(c.epoch = s.epoch, false) AS exactly,
      CASE WHEN s.top > 0 THEN c.meta_ttl ELSE 2 * c.hold END AS life,
      CASE WHEN s.top > 0 THEN greatest(c.meta_ttl / 2, least(c.meta_ttl, c.hold)) ELSE c.hold END AS least_life
    FROM unnest(p_channels, p_offsets, p_epochs, p_holds, p_meta_ttls) WITH ORDINALITY
      AS c (channel, at, epoch, hold, meta_ttl, n)
    LEFT JOIN gateway_streams s ON s.channel = c.channel
    ORDER BY c.channel
  LOOP
    IF each.gone OR NOT each.same OR each.top <> each.at THEN RETURN NEXT each.place; END IF;
    IF NOT each.gone AND each.exactly AND each.top < each.at THEN
      UPDATE gateway_streams s SET expires = clock_timestamp()
      WHERE s.channel IN (SELECT f.channel FROM gateway_streams f WHERE f.channel = each.channel AND f.top < each.at
        FOR NO KEY UPDATE SKIP LOCKED);
    ELSIF NOT each.gone AND each.left_over < each.least_life THEN
      UPDATE gateway_streams s SET expires = greatest(s.expires, clock_timestamp() + each.life)
      WHERE s.channel IN (SELECT f.channel FROM gateway_streams f WHERE f.channel = each.channel
        FOR NO KEY UPDATE SKIP LOCKED);
    END IF;
  END LOOP;
END $$;

CREATE OR REPLACE FUNCTION gateway_remove_history(p_channel text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  UPDATE gateway_streams SET floor = top, trimmed = top WHERE channel = p_channel;
  DELETE FROM gateway_publications WHERE channel = p_channel;
END $$;

-- Remove what has expired, of so many streams at most; what somebody is at work on is left for the next time. Answers
-- whether there may be more.
CREATE OR REPLACE FUNCTION gateway_clean(p_most int) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  streams int;
BEGIN
  IF NOT pg_try_advisory_xact_lock(hashtext('gateway_news'), 2) THEN RETURN false; END IF;
  WITH ended AS (
    SELECT channel, top, expires <= clock_timestamp() AS gone FROM gateway_streams
    WHERE expires <= clock_timestamp() OR kept_until <= clock_timestamp() AND trimmed < top
    LIMIT p_most FOR UPDATE SKIP LOCKED
  ), others AS (
    UPDATE gateway_seed SET seed = gen_random_uuid() WHERE EXISTS (SELECT FROM ended WHERE gone)
  ), gone AS (
    DELETE FROM gateway_publications p USING ended e WHERE p.channel = e.channel
  ), closed AS (
    UPDATE gateway_streams s SET floor = e.top, trimmed = e.top FROM ended e WHERE s.channel = e.channel AND NOT e.gone
  ), removed AS (
    DELETE FROM gateway_streams s USING ended e WHERE s.channel = e.channel AND e.gone
  )
  SELECT count(*) INTO streams FROM ended;
  DELETE FROM gateway_results WHERE expires <= clock_timestamp();
  DELETE FROM gateway_messages WHERE written < clock_timestamp() - interval '60s';
  DELETE FROM gateway_owners WHERE swept < clock_timestamp() - interval '1 day';
  RETURN streams >= p_most;
END $$;
