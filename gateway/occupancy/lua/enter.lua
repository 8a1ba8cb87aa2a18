-- Add a node to the owners that hear a channel, under the first of its names alone.
-- KEYS: owners, then for each name its index
-- ARGV: channel, '1' if nobody has been told that the node is in, keep (ms), then the names
-- Answers 1 if the channel was vacant as far as anybody has been told. Who is in already without that anybody was told
-- may have been the first: who has come since was not.
local owners, index, channel, owner = KEYS[1], KEYS[2], ARGV[1], ARGV[4]
local vacant = redis.call('EXISTS', owners) == 0
for at = 4, #ARGV do
  if redis.call('SISMEMBER', owners, ARGV[at]) == 1 then
    vacant = ARGV[2] == '1'
  end
end
for at = 5, #ARGV do
  redis.call('SREM', owners, ARGV[at])
  redis.call('SREM', KEYS[at - 2], channel)
end
redis.call('SADD', owners, owner)
redis.call('SADD', index, channel)
redis.call('PEXPIRE', owners, ARGV[3])
redis.call('PEXPIRE', index, ARGV[3])
return vacant and 1 or 0
