-- Hand events on from the queue to the targets that are to be told; one that has been handed on already is left alone.
-- KEYS: as in append.lua, targets, then what each target is to be told
-- ARGV: as in append.lua, how many targets, their names, then for each event itself and its targets' numbers ("1 3")
-- Answers how many had no place.
local number, lost = tonumber(ARGV[6]), 0
for at = 7 + number, #ARGV, 2 do
  local event = ARGV[at]
  if redis.call('ZREM', queue, event) == 1 then
    redis.call('HINCRBY', meta, 'bytes', -#event)
    local id, name = event:match('^(%d+)\n([^\n]*)\n')
    if redis.call('HGET', held, name) == event then redis.call('HDEL', held, name) end
    for which in ARGV[at + 1]:gmatch('%d+') do
      local told, target = KEYS[5 + which], ARGV[6 + which]
      if fits(told, 'bytes ' .. target, event) then
        redis.call('ZADD', told, id, event)
        redis.call('HINCRBY', meta, 'bytes ' .. target, #event)
        redis.call('SADD', KEYS[5], target)
        for _, each in ipairs({told, meta, KEYS[5]}) do redis.call('PEXPIRE', each, keep) end
      else
        lost = lost + 1
      end
    end
  end
end
if redis.call('EXISTS', queue) == 0 then redis.call('HDEL', meta, 'bytes') end
return lost
