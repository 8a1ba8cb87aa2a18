-- Mark a lease as finished if it is still the same.
-- KEYS: lease    ARGV: fence, keep (ms)
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('SET', KEYS[1], 'finished', 'PX', ARGV[2])
end
