-- What an app has to be told. One that has nothing is not looked at again before it has.
-- KEYS: as in append.lua, targets    ARGV: as in append.lua, limit
-- Answers its key, what is due as far as it is not too much, and the targets that are behind.
local PAGE, MUCH = 50, 1000000
local at, from, limit, due, size = now(), 0, tonumber(ARGV[6]), {}, 0
while from < limit and size < MUCH do
  local page, known = redis.call('ZRANGE', queue, from, math.min(from + PAGE, limit) - 1, 'WITHSCORES'), #due
  for each = 1, #page, 2 do
    if tonumber(page[each + 1]) > at then break end
    due[#due + 1], size = page[each], size + #page[each]
  end
  if #due < known + PAGE then break end
  from = from + PAGE
end
local targets = redis.call('SMEMBERS', KEYS[5])
if #targets == 0 and redis.call('EXISTS', queue) == 0 then redis.call('SREM', pending, app) end
return {redis.call('HGET', meta, 'key') or '', due, targets}
