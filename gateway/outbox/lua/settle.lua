-- Have done with events of a target, and keep them as dead letters if so many of these are to be kept.
-- KEYS: targets, what the target is to be told, dead letters, meta data
-- ARGV: target, dead letters to keep, keep (ms), then the events
local letters, bytes = tonumber(ARGV[2]), 'bytes ' .. ARGV[1]
for at = 4, #ARGV do
  local event = ARGV[at]
  if redis.call('ZREM', KEYS[2], event) == 1 then
    redis.call('HINCRBY', KEYS[4], bytes, -#event)
    if letters > 0 then redis.call('ZADD', KEYS[3], event:match('^%d+'), event) end
  end
end
if letters > 0 then
  local excess = redis.call('ZCARD', KEYS[3]) - letters
  if excess > 0 then
    for _, oldest in ipairs(redis.call('ZRANGE', KEYS[3], 0, excess - 1)) do redis.call('ZREM', KEYS[3], oldest) end
  end
  redis.call('PEXPIRE', KEYS[3], ARGV[3])
end
if redis.call('EXISTS', KEYS[2]) == 0 then
  redis.call('SREM', KEYS[1], ARGV[1])
  redis.call('HDEL', KEYS[4], bytes)
end
redis.call('PEXPIRE', KEYS[4], ARGV[3])
