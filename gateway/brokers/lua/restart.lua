-- Give a stream that ends before a position of its own epoch a new epoch: it has lost publications.
-- KEYS: meta, stream    ARGV: offset, epoch, new epoch, how long that lasts (ms)
local meta, stream = KEYS[1], KEYS[2]
local top = redis.call('HMGET', meta, 'e', 's')
if top[1] ~= ARGV[2] or tonumber(ARGV[1]) <= tonumber(top[2] or '0') then return 0 end
redis.call('DEL', meta, stream)
redis.call('HSET', meta, 'e', ARGV[3])
redis.call('PEXPIRE', meta, ARGV[4])
return 1
