-- version: 1
-- The block list: users by when their blocks end.

CREATE TABLE IF NOT EXISTS gateway_blocks (
  user_id text COLLATE "C" PRIMARY KEY,
  until timestamptz NOT NULL
);

-- Put a user on the list and tell all nodes, as one act; without time, for ever. Answers whether there was room.
CREATE OR REPLACE FUNCTION gateway_block(p_user text, p_lasts interval, p_most int) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
  LOCK TABLE gateway_blocks IN SHARE ROW EXCLUSIVE MODE;  -- whoever comes first is told of first
  DELETE FROM gateway_blocks WHERE until <= clock_timestamp();
  IF (SELECT count(*) FROM gateway_blocks) >= p_most
    AND NOT EXISTS (SELECT FROM gateway_blocks WHERE user_id = p_user) THEN RETURN false; END IF;
  INSERT INTO gateway_blocks VALUES (p_user, coalesce(clock_timestamp() + p_lasts, 'infinity'))
  ON CONFLICT (user_id) DO UPDATE SET until = excluded.until;
  PERFORM gateway_tell(ARRAY['nblocks'],
    ARRAY[convert_to(coalesce(extract(epoch FROM p_lasts)::text, '') || ':' || p_user, 'UTF8')]);
  RETURN true;
END $$;

CREATE OR REPLACE FUNCTION gateway_unblock(p_user text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  LOCK TABLE gateway_blocks IN SHARE ROW EXCLUSIVE MODE;
  DELETE FROM gateway_blocks WHERE user_id = p_user;
  PERFORM gateway_tell(ARRAY['nblocks'], ARRAY[convert_to('0:' || p_user, 'UTF8')]);
END $$;
