-- Take a user off the block list and tell all nodes, as one act.
-- KEYS: list    ARGV: user, pub/sub channel
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('PUBLISH', ARGV[2], '0:' .. ARGV[1])
