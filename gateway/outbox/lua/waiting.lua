-- What an app has to be told. One that has nothing is not looked at again before it has.
-- KEYS: as in append.lua, targets    ARGV: as in append.lua, limit
-- Answers its key, what is due, and the targets that are behind.
local at, due = now(), {}
local first = redis.call('ZRANGE', queue, 0, ARGV[5] - 1, 'WITHSCORES')
for each = 1, #first, 2 do
  if tonumber(first[each + 1]) <= at then due[#due + 1] = first[each] end
end
local targets = redis.call('SMEMBERS', KEYS[5])
if #first + #targets == 0 then redis.call('SREM', pending, app) end
return {redis.call('HGET', meta, 'key') or '', due, targets}
