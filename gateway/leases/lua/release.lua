-- Give a lease back if it is still the same. Answers 1, or 0 if it is not.
-- KEYS: lease    ARGV: fence
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
