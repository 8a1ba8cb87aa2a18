-- version: 1
-- What is spent of limits: until when it counts, in microseconds since the epoch, and, in a window, how much.

CREATE UNLOGGED TABLE IF NOT EXISTS gateway_limits (
  kind text COLLATE "C",
  name text COLLATE "C",
  key text COLLATE "C",
  until bigint NOT NULL,
  used bigint NOT NULL,
  PRIMARY KEY (kind, name, key)
) WITH (fillfactor = 50);

CREATE OR REPLACE FUNCTION gateway_spent(p_kind text, p_name text, p_key text) RETURNS gateway_limits
LANGUAGE plpgsql AS $$
DECLARE
  found_limit gateway_limits;
BEGIN
  LOOP
    SELECT * INTO found_limit FROM gateway_limits WHERE kind = p_kind AND name = p_name AND key = p_key FOR UPDATE;
    IF FOUND THEN RETURN found_limit; END IF;
    INSERT INTO gateway_limits VALUES (p_kind, p_name, p_key, 0, 0) ON CONFLICT DO NOTHING;
  END LOOP;
END $$;

-- Take tokens from a bucket, kept as the moment at which it is full again. Times in microseconds.
-- Answers whether that is allowed, when it would be, what is left, and when all is there again.
CREATE OR REPLACE FUNCTION gateway_take_rate(
  p_name text, p_key text, p_interval bigint, p_burst bigint, p_cost bigint,
  OUT allowed boolean, OUT wait bigint, OUT remaining bigint, OUT reset bigint
) LANGUAGE plpgsql AS $$
DECLARE
  spent gateway_limits := gateway_spent('rate', p_name, p_key);
  moment bigint := (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;
  bucket bigint := p_interval * p_burst;
  -- Never more than an empty bucket, though the clock be set back or the limit be made stricter.
  full_at bigint := least(greatest(spent.until, moment), moment + bucket);
  after bigint := full_at + p_cost * p_interval;
BEGIN
  allowed := after - moment <= bucket;
  wait := CASE WHEN allowed THEN 0 ELSE after - moment - bucket END;
  IF allowed THEN
    full_at := after;
    UPDATE gateway_limits SET until = after WHERE kind = 'rate' AND name = p_name AND key = p_key;
  END IF;
  remaining := (bucket - (full_at - moment)) / p_interval;
  reset := full_at - moment;
END $$;

-- Count what is spent in the present window. Answers likewise.
CREATE OR REPLACE FUNCTION gateway_take_window(
  p_name text, p_key text, p_limit bigint, p_period bigint, p_cost bigint,
  OUT allowed boolean, OUT wait bigint, OUT remaining bigint, OUT reset bigint
) LANGUAGE plpgsql AS $$
DECLARE
  spent gateway_limits := gateway_spent('window', p_name, p_key);
  moment bigint := (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;
  ends bigint;
  spent_now bigint;
BEGIN
  reset := p_period - moment % p_period;
  ends := moment + reset;
  spent_now := CASE WHEN spent.until = ends THEN spent.used ELSE 0 END;
  allowed := spent_now + p_cost <= p_limit;
  wait := CASE WHEN allowed THEN 0 ELSE reset END;
  IF allowed THEN
    spent_now := spent_now + p_cost;
    UPDATE gateway_limits SET until = ends, used = spent_now
    WHERE kind = 'window' AND name = p_name AND key = p_key;
  END IF;
  remaining := greatest(0, p_limit - spent_now);
END $$;

-- Forget what is whole again; what somebody is at work on is left for the next time.
CREATE OR REPLACE FUNCTION gateway_clean_limits() RETURNS void LANGUAGE sql AS $$
  DELETE FROM gateway_limits WHERE (kind, name, key) IN (
    SELECT kind, name, key FROM gateway_limits
    WHERE until < (extract(epoch FROM clock_timestamp()) * 1000000)::bigint LIMIT 10000 FOR UPDATE SKIP LOCKED)
$$;
