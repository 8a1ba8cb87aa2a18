-- Take out some of what an owner has left in a channel; with the last of it, the owner and the note in its index.
-- KEYS: owners, users, index, members    ARGV: channel, owner, how many at most
-- Answers what was taken out: client, value, client, value, ...
local owners, users, index, members = unpack(KEYS)
local taken = redis.call('HRANDFIELD', members, ARGV[3], 'WITHVALUES')
for at = 1, #taken, 2 do
  local length = string.match(taken[at + 1], '^%d+') or '0'
  local who = string.sub(taken[at + 1], #length + 2, #length + 1 + length)
  redis.call('HDEL', members, taken[at])
  if redis.call('HINCRBY', users, who, -1) <= 0 then
    redis.call('HDEL', users, who)
  end
end
if redis.call('EXISTS', members) == 0 then
  redis.call('SREM', owners, ARGV[2])
  redis.call('SREM', index, ARGV[1])
end
return taken
