-- Tell (1 or 0) whether a position is the top of its stream.
-- A stream that ends before the position has lost publications and gets a new epoch.
-- KEYS: meta, stream    ARGV: offset, epoch, new epoch, meta ttl (ms)
local meta, stream = KEYS[1], KEYS[2]
local top = redis.call('HMGET', meta, 'e', 's')
local claimed, offset = tonumber(ARGV[1]), tonumber(top[2] or '0')
if top[1] ~= ARGV[2] and ARGV[2] ~= '' then return 0 end
if top[1] and ARGV[2] ~= '' and claimed > offset then
  redis.call('DEL', meta, stream)
  redis.call('HSET', meta, 'e', ARGV[3])
end
redis.call('PEXPIRE', meta, ARGV[4])
return claimed == offset and 1 or 0
