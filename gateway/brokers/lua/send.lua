-- Publish a message without history; only used behind a fence.
-- KEYS: pub/sub channel    ARGV: message
-- Answers "offset:epoch:nodes that took it".
return '0::' .. redis.call('PUBLISH', KEYS[1], ARGV[1])
