-- Take tokens from a bucket, kept as the moment at which it is full again.
-- KEYS: bucket    ARGV: interval (µs per token), burst, cost
-- Answers allowed (1 or 0), µs until it would be, tokens left, µs until full.
local interval, cost = tonumber(ARGV[1]), tonumber(ARGV[3])
local bucket = interval * tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

-- Never more than an empty bucket, though the clock be set back or the limit be made stricter.
local full = math.min(math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now), now + bucket)
local after = full + cost * interval
local wait = after - now - bucket
if wait > 0 then
  return {0, wait, math.floor((bucket - (full - now)) / interval), full - now}
end
redis.call('SET', KEYS[1], string.format('%.0f', after), 'PX', math.ceil((after - now) / 1000))
return {1, 0, math.floor((bucket - (after - now)) / interval), after - now}
