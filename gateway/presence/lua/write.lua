-- Have presence hold what is true of one member: its value under the first of the names, or nothing under any.
-- KEYS: owners, users, then for each name its index and its members
-- ARGV: channel, client, user, value or '', keep (ms), then the names
-- Answers 1 if it was there under a former name, any but the first, and what was there before, '' if nothing.
local owners, users, index, members = unpack(KEYS, 1, 4)
local channel, client, user, value, keep, owner = unpack(ARGV, 1, 6)
local moved, before = 0, ''

for at = 6, #ARGV do
  local noted, held = KEYS[2 * at - 9], KEYS[2 * at - 8]
  local former = redis.call('HGET', held, client)
  if former then
    moved, before = at > 6 and 1 or moved, former
    redis.call('HDEL', held, client)
    local length = string.match(former, '^%d+') or '0'
    local who = string.sub(former, #length + 2, #length + 1 + length)
    if redis.call('HINCRBY', users, who, -1) <= 0 then
      redis.call('HDEL', users, who)
    end
    if redis.call('EXISTS', held) == 0 then
      redis.call('SREM', owners, ARGV[at])
      redis.call('SREM', noted, channel)
    end
  end
end

if value ~= '' then
  redis.call('HSET', members, client, value)
  redis.call('HINCRBY', users, user, 1)
  if redis.call('HLEN', members) == 1 then
    redis.call('SADD', owners, owner)
    redis.call('SADD', index, channel)
    for _, key in ipairs({owners, users, index, members}) do
      redis.call('PEXPIRE', key, keep)
    end
  end
end
return {moved, before}
