-- Give a lease back if it is still the same, and tell everybody.
-- KEYS: lease    ARGV: fence, name, pub/sub channel
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
  redis.call('PUBLISH', ARGV[3], ARGV[2])
end
