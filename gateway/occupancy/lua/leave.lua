-- Remove a node from the owners that hear a channel, under all of its names.
-- KEYS: owners, then for each name its index
-- ARGV: channel, '1' if it may have been removed without anybody being told, then the names
-- Answers 1 if the channel is vacant now, by this.
local owners, channel = KEYS[1], ARGV[1]
local left = ARGV[2] == '1'
for at = 3, #ARGV do
  left = redis.call('SREM', owners, ARGV[at]) == 1 or left
  redis.call('SREM', KEYS[at - 1], channel)
end
return left and redis.call('EXISTS', owners) == 0 and 1 or 0
