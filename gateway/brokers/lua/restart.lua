-- Give a stream that ends before a position of its own epoch a new epoch: it has lost publications.
-- KEYS: meta, stream    ARGV: offset, epoch, new epoch, how long that lasts (ms)
local meta, stream, new_epoch = KEYS[1], KEYS[2], ARGV[3]
local top = redis.call('HMGET', meta, 'e', 's', 'r')
if top[1] ~= ARGV[2] or tonumber(ARGV[1]) <= tonumber(top[2] or '0') then return 0 end
-- under another history of data nobody has published: what is kept is what was, up to where it ends
if go_on(meta, top[1], top[2] or '0', top[3], '?', new_epoch) == new_epoch then return 1 end
redis.call('DEL', meta, stream)
go_on(meta, false, '0', false, '?', new_epoch)
redis.call('PEXPIRE', meta, ARGV[4])
return 1
