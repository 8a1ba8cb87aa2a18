-- Take a lease if it is free; if wanted, also if it is finished.
-- KEYS: lease, number    ARGV: owner, ttl, keep (ms), '1' if finished counts as free
-- Answers the lease's number as text, or for how many ms it is taken.
local held = redis.call('GET', KEYS[1])
if held == 'finished' then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
if held and not (held == 'finished' and ARGV[4] == '1') then
  return redis.call('PTTL', KEYS[1])
end
-- Not less than the time: numbers grow even if Redis has lost the last one.
local time = redis.call('TIME')
local number = math.max(tonumber(redis.call('GET', KEYS[2]) or 0) + 1, time[1] * 1000 + math.floor(time[2] / 1000))
number = string.format('%.0f', number)
redis.call('SET', KEYS[2], number, 'PX', ARGV[3])
redis.call('SET', KEYS[1], number .. ':' .. ARGV[1], 'PX', ARGV[2])
return number
