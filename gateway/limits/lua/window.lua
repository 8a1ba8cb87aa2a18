-- Count what is spent in the present window. The value names its window's end, which the expiry, in whole
-- milliseconds, may outlive.
-- KEYS: counter    ARGV: limit, period (µs), cost
-- Answers allowed (1 or 0), µs until it would be, what is left, µs until the window's end.
local limit, period, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local left = period - now % period
local ends = string.format('%.0f', now + left)

local known, used = string.match(redis.call('GET', KEYS[1]) or '', '^(%d+):(%d+)$')
used = known == ends and tonumber(used) or 0
if used + cost > limit then
  return {0, left, math.max(0, limit - used), left}
end
redis.call('SET', KEYS[1], ends .. ':' .. string.format('%.0f', used + cost), 'PX', math.ceil(left / 1000))
return {1, 0, limit - used - cost, left}
