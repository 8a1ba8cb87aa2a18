-- Stands before scripts about a map, behind replication_id.lua and lineage.lua.
-- KEYS: meta, stream, state, names, deadlines, versions, ...
-- Of a map with a stream, meta (b) and state (the field of the empty name, which no key has) hold the same token: what
-- has outlived the other, or lacks names, belongs to no map any more.
local call = redis.call
local meta, stream, state, names, deadlines, versions = unpack(KEYS)

local function forget()
  call('DEL', meta, stream, state, names, deadlines, versions)
end

-- The map as it stands: epoch, offset, where former epochs ended, known history. It begins anew where a part is lost.
-- An epoch that nobody has published under lasts for unpublished_ttl (ms) at least.
local function open_map(streams, new_epoch, unpublished_ttl, identity)
  local count = call('HLEN', state)
  if not streams then
    if count ~= call('ZCARD', names) then forget() end
    return '', '0', false, false
  end
  local top = call('HMGET', meta, 'e', 's', 'l', 'r', 'b')
  local token = call('HGET', state, '')
  if token then count = count - 1 end
  if token ~= top[5] or count ~= call('ZCARD', names) then
    forget()
    top = {}
  end
  if not top[1] then
    call('DEL', stream)
    top = {go_on(meta, false, '0', false, identity, new_epoch), false, false, call('HGET', meta, 'r')}
  end
  if not top[2] and call('PTTL', meta) < tonumber(unpublished_ttl) then call('PEXPIRE', meta, unpublished_ttl) end
  return top[1], top[2] or '0', top[3] or false, top[4]
end

-- All but the stream last for so long from now (ms); 0 is for ever.
local function last(ttl, ...)
  for _, name in ipairs({...}) do
    if ttl == '0' then call('PERSIST', name) else call('PEXPIRE', name, ttl) end
  end
end

local function now()
  local time = call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- An entry is "offset:length of tags:tags publication".
local function read_entry(entry)
  local offset, length, rest = string.match(entry, '^(%d+):(%d+):(.*)$')
  length = tonumber(length)
  return offset, string.sub(rest, length + 1), string.sub(rest, 1, length)
end
