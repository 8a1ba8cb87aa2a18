-- Keep an event that is due at once, unless what it tells of is as it was.
-- KEYS: as in append.lua, what was told last    ARGV: as in append.lua, event, '' or what is now, remembered (ms)
-- Answers 1 if it is kept, -1 if there are too many.
local event, value, remembered = unpack(ARGV, 6, 8)
if value ~= '' and redis.call('GET', KEYS[5]) == value then
  redis.call('PEXPIRE', KEYS[5], remembered)
  return 0
end
local at = now()
local kept = append(at, at, '', event)
if value ~= '' and kept == 1 then redis.call('SET', KEYS[5], value, 'PX', remembered) end
return kept
