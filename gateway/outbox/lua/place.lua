-- Have a node be in a place, under the first of its names alone, or under none; if that is a change, keep its event.
-- KEYS: as in append.lua, owners, then for each name its index
-- ARGV: as in append.lua, place, delay (microseconds), '1' if it is there, both events, then the names
-- Answers 1 if an event is kept, -1 if there are too many.
local owners = KEYS[5]
local place, delay, there, came, gone = unpack(ARGV, 6, 10)
local before = redis.call('EXISTS', owners)
for at = 6, #KEYS do
  redis.call('SREM', owners, ARGV[at + 5])
  redis.call('SREM', KEYS[at], place)
end
if there == '1' then
  redis.call('SADD', owners, ARGV[11])
  redis.call('SADD', KEYS[6], place)
  redis.call('PEXPIRE', owners, keep)
  redis.call('PEXPIRE', KEYS[6], keep)
end
if redis.call('EXISTS', owners) == before then return 0 end
local at = now()
if there ~= '1' then return append(at, at + delay, delay == '0' and '' or place, gone) end
if taken_back(place, at) then return 0 end
return append(at, at, '', came)
