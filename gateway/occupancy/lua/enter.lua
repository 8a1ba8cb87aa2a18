-- Add an owner to those that hear a channel, in place of its former self.
-- KEYS: owners    ARGV: owner, former owner or '', keep (ms), '1' if nobody has been told of the former one
-- Answers 1 if the channel was vacant as far as anybody has been told. A former one that nobody was told of may have
-- been the first: who has come since was not.
local former = ARGV[2] ~= '' and redis.call('SREM', KEYS[1], ARGV[2]) == 1
local vacant
if former then
  vacant = ARGV[4] == '1'
else
  vacant = redis.call('EXISTS', KEYS[1]) == 0
end
redis.call('SADD', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return vacant and 1 or 0
