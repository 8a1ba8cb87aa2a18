-- Publish a message without history unless its idempotency key has been used.
-- KEYS: result    ARGV: message, result ttl (ms), pub/sub channel
-- Answers "offset:epoch:nodes that took it", as the first publish with this key was answered.
local known = redis.call('GET', KEYS[1])
if known then return known end
-- before it is published: a server that refuses writes must not have published it
redis.call('SET', KEYS[1], '0::0', 'PX', ARGV[2])
local answer = '0::' .. redis.call('PUBLISH', ARGV[3], ARGV[1])
redis.call('SET', KEYS[1], answer, 'PX', ARGV[2])
return answer
