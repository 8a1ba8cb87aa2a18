-- Store and publish as one act, so that the order of messages is the order of offsets.
-- KEYS: meta, stream, pub/sub channel[, result]
-- ARGV: publication, new epoch, size, ttl, meta ttl, version, version epoch, result ttl (times in ms), identity
-- Answers "offset:epoch:nodes that took it".
local meta, stream, channel, result = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local publication, size, ttl, version, version_epoch = ARGV[1], ARGV[3], ARGV[4], ARGV[6], ARGV[7]

if result then
  local known = redis.call('GET', result)
  if known then return known end
end

-- Versions are whole numbers that may exceed the 53 bits of a Lua number.
local function at_least(a, b)
  return #a > #b or (#a == #b and a >= b)
end

local function answer(position, nodes)
  local receipt = position .. ':' .. nodes
  if result then redis.call('SET', result, receipt, 'PX', ARGV[8]) end
  return receipt
end

local top = redis.call('HMGET', meta, 'e', 's', 'v', 've', 'r')
local epoch = top[1]

if version ~= '0' and top[3] and (version_epoch == '' or version_epoch == top[4]) and at_least(top[3], version) then
  return answer((top[2] or '0') .. ':' .. epoch, 0)
end

if not epoch or top[5] ~= ARGV[9] then
  epoch = go_on(meta, epoch, top[2] or '0', top[5], ARGV[9], ARGV[2])
end
local offset = string.format('%.0f', redis.call('HINCRBY', meta, 's', 1))
if version ~= '0' then
  redis.call('HSET', meta, 'v', version, 've', version_epoch)
elseif top[3] then
  redis.call('HDEL', meta, 'v', 've')
end
redis.call('PEXPIRE', meta, ARGV[5])

if size == '1' then
  redis.call('SET', stream, offset .. ':' .. publication, 'PX', ttl)
else
  local function add(call)
    return call('XADD', stream, 'MAXLEN', size, offset .. '-0', 'd', publication)
  end
  local added = add(redis.pcall)
  if type(added) == 'table' and added.err then
    -- What lies there is a plain value of size 1, or a stream of another epoch that has outlived its meta
    -- data and so ends at this offset or later.
    redis.call('DEL', stream)
    add(redis.call)
  end
  redis.call('PEXPIRE', stream, ttl)
end

local position = offset .. ':' .. epoch
return answer(position, redis.call('PUBLISH', channel, '1p' .. position .. ':' .. publication))
