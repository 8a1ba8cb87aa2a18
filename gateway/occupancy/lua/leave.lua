-- Remove an owner from those that hear a channel.
-- KEYS: owners    ARGV: owner, '1' if it may have been removed without anybody being told
-- Answers 1 if the channel is vacant now, by this.
local left = redis.call('SREM', KEYS[1], ARGV[1]) == 1 or ARGV[2] == '1'
return left and redis.call('EXISTS', KEYS[1]) == 0 and 1 or 0
