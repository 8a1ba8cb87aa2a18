-- Remove members that still belong to an owner which is gone. A node that has come back owns them by now.
-- KEYS: members    ARGV: owner, client id...
-- Answers what was removed, as stored.
local removed = {}
local mark = ARGV[1] .. '\n'
for i = 2, #ARGV do
  local member = redis.call('HGET', KEYS[1], ARGV[i])
  if member and string.sub(member, 1, #mark) == mark then
    redis.call('HDEL', KEYS[1], ARGV[i])
    removed[#removed + 1] = member
  end
end
return removed
