-- Have presence hold what is true of one member: its value under the first of the names, or nothing under any.
-- KEYS: summary, then for each name its index and its members
-- ARGV: channel, client, user, value or '', keep (ms), then the names
-- Answers 1 if it was there under a former name, any but the first, and what was there before, '' if nothing.
local index, members = KEYS[2], KEYS[3]
local channel, client, user, value, keep, owner = unpack(ARGV, 1, 6)
local moved, before = 0, ''

for at = 6, #ARGV do
  local noted, held = KEYS[2 * at - 10], KEYS[2 * at - 9]
  local former = redis.call('HGET', held, client)
  if former then
    moved, before = at > 6 and 1 or moved, former
    take_out(held, client, former)
    clear(channel, ARGV[at], noted, held)
  end
end

if value ~= '' then
  redis.call('HSET', members, client, value)
  redis.call('HINCRBY', summary, ':' .. user, 1)
  if redis.call('HLEN', members) == 1 then
    list(owner, true)
    redis.call('SADD', index, channel)
    redis.call('PEXPIRE', summary, keep)
    redis.call('PEXPIRE', index, keep)
    redis.call('PEXPIRE', members, keep)
  end
end
return {moved, before}
