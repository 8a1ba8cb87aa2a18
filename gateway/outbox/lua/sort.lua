-- Hand events on from the queue to the targets that are to be told; one that has been handed on already is left alone.
-- KEYS: as in append.lua, targets, then what each target is to be told
-- ARGV: as in append.lua, how many targets, their names, then for each event itself and its targets' numbers ("1 3")
-- Answers how many had no place.
local number, lost = tonumber(ARGV[5]), 0
for at = 6 + number, #ARGV, 2 do
  local event = ARGV[at]
  if redis.call('ZREM', queue, event) == 1 then
    local id, name = event:match('^(%d+)\n([^\n]*)\n')
    if redis.call('HGET', held, name) == event then redis.call('HDEL', held, name) end
    for which in ARGV[at + 1]:gmatch('%d+') do
      local told = KEYS[5 + which]
      if redis.call('ZCARD', told) >= most then
        lost = lost + 1
      else
        redis.call('ZADD', told, id, event)
        redis.call('PEXPIRE', told, keep)
        redis.call('SADD', KEYS[5], ARGV[5 + which])
        redis.call('PEXPIRE', KEYS[5], keep)
      end
    end
  end
end
return lost
