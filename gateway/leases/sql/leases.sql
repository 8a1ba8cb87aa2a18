-- version: 1
-- Leases by name. The fence is empty where the lease is finished: nobody gets it unless he asks anew.

CREATE TABLE IF NOT EXISTS gateway_leases (
  name text COLLATE "C" PRIMARY KEY,
  number bigint NOT NULL,
  fence text NOT NULL,
  until timestamptz NOT NULL
) WITH (fillfactor = 50);

-- Take a lease if it is free; if wanted, also if it is finished. Answers its number, or for how long it is taken.
CREATE OR REPLACE FUNCTION gateway_acquire(
  p_name text, p_owner text, p_ttl interval, p_keep interval, p_anew boolean, OUT given bigint, OUT taken interval
) LANGUAGE plpgsql AS $$
DECLARE
  lease gateway_leases;
BEGIN
  INSERT INTO gateway_leases VALUES (p_name, 0, '', clock_timestamp()) ON CONFLICT DO NOTHING;
  SELECT * INTO lease FROM gateway_leases WHERE name = p_name FOR UPDATE;
  IF lease.until > clock_timestamp() AND NOT (lease.fence = '' AND p_anew) THEN
    IF lease.fence = '' THEN
      lease.until := clock_timestamp() + p_keep;
      UPDATE gateway_leases SET until = lease.until WHERE name = p_name;
    END IF;
    taken := lease.until - clock_timestamp();
    RETURN;
  END IF;
  -- Not less than the time: numbers grow even if the last one has been lost.
  given := greatest(lease.number + 1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint);
  UPDATE gateway_leases SET number = given, fence = given || ':' || p_owner, until = clock_timestamp() + p_ttl
  WHERE name = p_name;
  -- Numbers that nobody has asked for in long are forgotten here: each lease that is given looks after some others.
  DELETE FROM gateway_leases WHERE name IN (
    SELECT l.name FROM gateway_leases l WHERE l.until < clock_timestamp() - p_keep LIMIT 10 FOR UPDATE SKIP LOCKED);
END $$;

CREATE OR REPLACE FUNCTION gateway_renew_lease(p_name text, p_fence text, p_ttl interval) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
  UPDATE gateway_leases SET until = clock_timestamp() + p_ttl
  WHERE name = p_name AND fence = p_fence AND until > clock_timestamp();
  RETURN FOUND;
END $$;

-- Give a lease back if it is still the same, and tell everybody.
CREATE OR REPLACE FUNCTION gateway_release(p_name text, p_fence text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  UPDATE gateway_leases SET fence = '', until = clock_timestamp()
  WHERE name = p_name AND fence = p_fence AND until > clock_timestamp();
  IF FOUND THEN PERFORM gateway_tell(ARRAY['nreleased'], ARRAY[convert_to(p_name, 'UTF8')]); END IF;
END $$;

CREATE OR REPLACE FUNCTION gateway_finish(p_name text, p_fence text, p_keep interval) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
  UPDATE gateway_leases SET fence = '', until = clock_timestamp() + p_keep
  WHERE name = p_name AND fence = p_fence AND until > clock_timestamp();
END $$;
