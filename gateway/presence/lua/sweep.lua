-- Take out some of what an owner has left in a channel; with the last of it, the owner and the note in its index.
-- KEYS: summary, index, members    ARGV: channel, owner, how many at most
-- Answers what was taken out: client, value, client, value, ...
local summary, index, members = unpack(KEYS)
local taken = redis.call('HRANDFIELD', members, ARGV[3], 'WITHVALUES')
for at = 1, #taken, 2 do
  local length = string.match(taken[at + 1], '^%d+') or '0'
  local who = ':' .. string.sub(taken[at + 1], #length + 2, #length + 1 + length)
  redis.call('HDEL', members, taken[at])
  if redis.call('HINCRBY', summary, who, -1) <= 0 then
    redis.call('HDEL', summary, who)
  end
end
if redis.call('EXISTS', members) == 0 then
  local owners = {}
  for other in string.gmatch(redis.call('HGET', summary, '') or '', '%S+') do
    if other ~= ARGV[2] then
      owners[#owners + 1] = other
    end
  end
  if #owners > 0 then
    redis.call('HSET', summary, '', table.concat(owners, ' '))
  else
    redis.call('HDEL', summary, '')
  end
  redis.call('SREM', index, ARGV[1])
end
return taken
