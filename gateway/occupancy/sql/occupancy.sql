-- version: 1
-- Which owners hear a channel: nodes, each in one of its incarnations.

CREATE UNLOGGED TABLE IF NOT EXISTS gateway_occupants (
  channel text COLLATE "C",
  owner text COLLATE "C",
  PRIMARY KEY (channel, owner)
);
CREATE INDEX IF NOT EXISTS gateway_occupants_owner_index ON gateway_occupants (owner);

-- Have a node be among those that hear a channel, in whichever incarnation it was before, or not. Answers whether by
-- this the channel is occupied, or vacant, as far as anybody has been told; NULL if the owner is no more. Who says that
-- nobody has been told of its last change may have been the first without knowing.
CREATE OR REPLACE FUNCTION gateway_occupy(
  p_node text, p_owner text, p_channel text, p_hears boolean, p_untold boolean
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  was_in boolean;
  others boolean;
BEGIN
  IF NOT gateway_owns('occupancy', p_owner) THEN RETURN NULL; END IF;
  PERFORM pg_advisory_xact_lock(hashtext('gateway_news'), hashtext(p_channel));
  DELETE FROM gateway_occupants WHERE channel = p_channel AND starts_with(owner, p_node || '.');
  was_in := FOUND;
  others := EXISTS (SELECT FROM gateway_occupants WHERE channel = p_channel);
  IF p_hears THEN
    INSERT INTO gateway_occupants VALUES (p_channel, p_owner);
    RETURN NOT others AND (p_untold OR NOT was_in);
  END IF;
  RETURN NOT others AND (was_in OR p_untold);
END $$;

-- Take a dead owner out of a channel. Answers whether nobody else is in.
CREATE OR REPLACE FUNCTION gateway_vacate(p_owner text, p_channel text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(hashtext('gateway_news'), hashtext(p_channel));
  DELETE FROM gateway_occupants WHERE channel = p_channel AND owner = p_owner;
  RETURN FOUND AND NOT EXISTS (SELECT FROM gateway_occupants WHERE channel = p_channel);
END $$;
