-- Stands before the scripts of presence: what a channel's summary, KEYS[1], says of owners and users.
local summary = KEYS[1]

-- Among the owners that have members, or not any more.
local function list(name, present)
  local owners = {present and name or nil}
  for other in string.gmatch(redis.call('HGET', summary, '') or '', '%S+') do
    if other ~= name then
      owners[#owners + 1] = other
    end
  end
  if #owners > 0 then
    redis.call('HSET', summary, '', table.concat(owners, ' '))
  else
    redis.call('HDEL', summary, '')
  end
end

-- Take a member out, given its value.
local function take_out(members, client, value)
  redis.call('HDEL', members, client)
  local length = string.match(value, '^%d+') or '0'
  local who = ':' .. string.sub(value, #length + 2, #length + 1 + length)
  if redis.call('HINCRBY', summary, who, -1) <= 0 then
    redis.call('HDEL', summary, who)
  end
end

-- With the last of its members, an owner and the note in its index go.
local function clear(channel, name, index, members)
  if redis.call('EXISTS', members) == 0 then
    list(name, false)
    redis.call('SREM', index, channel)
  end
end
