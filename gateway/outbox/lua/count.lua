-- Keep the number of a channel's subscribers: the newest, at its time, in place of one that is not told yet.
-- KEYS: as in append.lua, what was told last
-- ARGV: as in append.lua, event, name, number, gap (microseconds), remembered (ms)
-- Answers 1 if it is kept, -1 if there are too many.
local event, name, number, gap, remembered = unpack(ARGV, 6, 10)
local at = now()
local due = taken_back(name, at)
if not due then
  local last = redis.call('HMGET', KEYS[5], 'number', 'due')
  if last[1] == number then
    redis.call('PEXPIRE', KEYS[5], remembered)
    return 0
  end
  due = math.max(at, tonumber(last[2] or 0) + gap)
end
local kept = append(at, due, due > at and name or '', event)
if kept == 1 then
  redis.call('HSET', KEYS[5], 'number', number, 'due', whole(due))
  redis.call('PEXPIRE', KEYS[5], remembered)
end
return kept
