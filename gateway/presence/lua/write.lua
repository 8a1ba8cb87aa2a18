-- Have presence hold what is true of one member: its value under the first of the names, or nothing under any.
-- KEYS: summary, then for each name its index and its members
-- ARGV: channel, client, user, value or '', keep (ms), then the names
-- Answers under which of the names it was found, the last of them, counted from 1; 0 for none.
local index, members = KEYS[2], KEYS[3]
local channel, client, user, value, keep, owner = unpack(ARGV, 1, 6)
local found = 0

for at = 1, #ARGV - 5 do
  local noted, held = KEYS[2 * at], KEYS[2 * at + 1]
  local former = redis.call('HGET', held, client)
  if former then
    found = at
    take_out(held, client, former)
    clear(channel, ARGV[at + 5], noted, held)
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
return found
