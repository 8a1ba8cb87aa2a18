-- Put a user on the block list and tell all nodes, as one act.
-- KEYS: list    ARGV: user, for how long (ms; '' for ever), how many there may be, pub/sub channel
-- Answers 1, or 0 if the list is full.
local list, user, lasts, most, channel = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

redis.call('ZREMRANGEBYSCORE', list, '-inf', now)
if redis.call('ZCARD', list) >= most and not redis.call('ZSCORE', list, user) then return 0 end
redis.call('ZADD', list, lasts == '' and '+inf' or string.format('%.0f', now + lasts), user)

-- the list goes when the last on it does
local last = redis.call('ZRANGE', list, -1, -1, 'WITHSCORES')[2]
if last == 'inf' then
  redis.call('PERSIST', list)
else
  redis.call('PEXPIREAT', list, last)
end
redis.call('PUBLISH', channel, lasts .. ':' .. user)
return 1
