-- Set or remove what a key has, append the change to the stream and publish it, as one act.
-- KEYS: ..., index of deadlines[, result]
-- ARGV: 'set', 'remove' or 'expire'; key, publication, its tags, new epoch, stream size (0: none), stream ttl, ttl of the
-- map (0: for ever), unpublished ttl, key ttl (0: for ever), version, version epoch, key mode, expected offset ('': any),
-- expected epoch, whether patches are wanted, whether it renews, result ttl, pub/sub channel, channel, most keys (0: any),
-- the deadline that has passed, identity (times in ms)
-- Answers {reason, offset, epoch, what the key has, if that is the reason}.
local index, result = KEYS[7], KEYS[8]
local op, key, publication, tags, new_epoch, size = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local stream_ttl, map_ttl, unpublished_ttl, key_ttl = ARGV[7], ARGV[8], ARGV[9], ARGV[10]
local version, version_epoch, key_mode = ARGV[11], ARGV[12], ARGV[13]
local expected_offset, expected_epoch, patches, renews = ARGV[14], ARGV[15], ARGV[16] == '1', ARGV[17] == '1'
local result_ttl, pubsub, channel, most, due, identity = ARGV[18], ARGV[19], ARGV[20], ARGV[21], ARGV[22], ARGV[23]

if result then
  local known = call('GET', result)
  if known then
    local offset, epoch = string.match(known, '^(%d+):(.*)$')
    return {'idempotency', offset, epoch}
  end
end
if op == 'expire' and call('ZSCORE', deadlines, key) ~= due then return {'key_not_found', '0', ''} end

local streams = size ~= '0'
local epoch, offset, _, known = open_map(streams, new_epoch, unpublished_ttl, identity)
local entry = call('HGET', state, key)
local at, previous, previous_tags
if entry then at, previous, previous_tags = read_entry(entry) end

-- Versions are whole numbers that may exceed the 53 bits of a Lua number.
local function has_version()
  local stored = entry and version ~= '0' and call('HGET', versions, key)
  if not stored then return false end
  local number, stored_epoch = string.match(stored, '^(%d+):(.*)$')
  local later = #number > #version or (#number == #version and number >= version)
  return later and (version_epoch == '' or version_epoch == stored_epoch)
end

local function renew()
  if key_ttl ~= '0' then
    local deadline = now() + tonumber(key_ttl)
    local known_due = call('ZSCORE', index, channel) -- index before entry: what is kept can be found
    if not known_due or tonumber(known_due) > deadline then
      call('ZADD', index, string.format('%.0f', deadline), channel)
    end
    call('ZADD', deadlines, string.format('%.0f', deadline), key)
  else
    call('ZREM', deadlines, key)
  end
  last(map_ttl, meta, state, names, deadlines, versions)
end

local reason
if has_version() then
  reason = 'version'
elseif key_mode == 'if_new' and entry then
  reason = 'key_exists'
elseif key_mode == 'if_exists' and not entry then
  reason = 'key_not_found'
elseif expected_offset ~= '' and (expected_epoch ~= epoch or expected_offset ~= at) then
  reason = 'position_mismatch'
elseif op ~= 'set' and not entry then
  reason = 'key_not_found'
elseif op == 'set' and not entry and most ~= '0' and call('ZCARD', names) >= tonumber(most) then
  reason = 'full'
end
if reason then
  if reason == 'key_exists' and renews then renew() end
  local current = reason == 'position_mismatch' and entry and {at, previous} or false
  return {reason, offset, epoch, current}
end

if streams then
  if known ~= identity then epoch = go_on(meta, epoch, offset, known, identity, new_epoch) end
  offset = string.format('%.0f', call('HINCRBY', meta, 's', 1))
  if not call('HGET', state, '') then
    call('HSET', meta, 'b', new_epoch)
    call('HSET', state, '', new_epoch)
  end
end
local kind, behind = '1m', ''
if op == 'set' then
  call('HSET', state, key, offset .. ':' .. #tags .. ':' .. tags .. publication)
  call('ZADD', names, 0, key)
  if version ~= '0' then call('HSET', versions, key, version .. ':' .. version_epoch) end
  renew()
  if patches and streams and previous then behind = previous end
else
  kind, behind = '1r', previous_tags
  call('HDEL', state, key)
  call('ZREM', names, key)
  call('ZREM', deadlines, key)
  call('HDEL', versions, key)
  last(map_ttl, meta, state, names, deadlines, versions)
end
if streams then
  local id = offset .. '-0'
  local fields = {'d', publication}
  if op ~= 'set' then fields = {'d', publication, 't', previous_tags} end
  local added = redis.pcall('XADD', stream, 'MAXLEN', size, id, unpack(fields))
  if type(added) == 'table' and added.err then -- a stream that has outlived the map that it was of
    call('DEL', stream)
    call('XADD', stream, id, unpack(fields))
  end
  call('PEXPIRE', stream, stream_ttl)
end
local head = offset .. ':' .. epoch
if result then call('SET', result, head, 'PX', result_ttl) end
call('PUBLISH', pubsub, kind .. head .. ':' .. #publication .. ':' .. publication .. behind)
return {'', offset, epoch}
