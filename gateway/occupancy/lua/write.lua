-- Have a node be among those that hear a channel, under the first of its names alone, or under none.
-- KEYS: owners, then for each name its index
-- ARGV: channel, keep (ms), '1' if it is to hear it, '1' if nobody has been told of its last change, then the names
-- Answers 1 if by this the channel is occupied, or vacant, as far as anybody has been told.
local owners, index = KEYS[1], KEYS[2]
local channel, keep, hears, untold, owner = unpack(ARGV, 1, 5)
local found = false
for at = 2, #KEYS do
  found = redis.call('SREM', owners, ARGV[at + 3]) == 1 or found
  redis.call('SREM', KEYS[at], channel)
end
local changed = redis.call('EXISTS', owners) == 0
if hears == '1' then
  redis.call('SADD', owners, owner)
  redis.call('SADD', index, channel)
  redis.call('PEXPIRE', owners, keep)
  redis.call('PEXPIRE', index, keep)
  -- Who is in without that anybody was told may have been the first: who has come since was not.
  if found then changed = untold == '1' end
else
  changed = changed and (found or untold == '1')
end
return changed and 1 or 0
