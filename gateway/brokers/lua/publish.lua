-- Store and publish as one act, so that the order of messages is the order of offsets.
-- KEYS: meta, stream[, result]
-- ARGV: publication, pub/sub channel, new epoch, size, ttl, meta ttl[, version, version epoch[, result ttl]], identity
-- (times in ms). The channel is no key: a cluster refuses scripts some of whose keys are not there while their slot
-- moves.
-- Answers "offset:epoch:nodes that took it".
local call = redis.call
local meta, stream, result = KEYS[1], KEYS[2], KEYS[3]
local publication, size, ttl, identity = ARGV[1], ARGV[4], ARGV[5], ARGV[#ARGV]
local version, version_epoch = '0', ''
if #ARGV > 7 then version, version_epoch = ARGV[7], ARGV[8] end

if result then
  local known = call('GET', result)
  if known then return known end
end

local top = call('HMGET', meta, 'e', 's', 'v', 'r')
local epoch = top[1]

-- Versions are whole numbers that may exceed the 53 bits of a Lua number.
if version ~= '0' and top[3] and (#top[3] > #version or (#top[3] == #version and top[3] >= version))
  and (version_epoch == '' or version_epoch == call('HGET', meta, 've')) then
  local receipt = (top[2] or '0') .. ':' .. epoch .. ':0'
  if result then call('SET', result, receipt, 'PX', ARGV[9]) end
  return receipt
end

if top[4] ~= identity or not epoch then
  epoch = go_on(meta, epoch, top[2] or '0', top[4], identity, ARGV[3])
end
local offset = string.format('%.0f', call('HINCRBY', meta, 's', 1))
if version ~= '0' then
  call('HSET', meta, 'v', version, 've', version_epoch)
elseif top[3] then
  call('HDEL', meta, 'v', 've')
end
call('PEXPIRE', meta, ARGV[6])

if size == '1' then
  call('SET', stream, offset .. ':' .. publication, 'PX', ttl)
else
  local id = offset .. '-0'
  local added = redis.pcall('XADD', stream, 'MAXLEN', size, id, 'd', publication)
  if type(added) == 'table' and added.err then
    -- What lies there is a plain value of size 1, or a stream of another epoch that has outlived its meta
    -- data and so ends at this offset or later.
    call('DEL', stream)
    call('XADD', stream, id, 'd', publication)
  end
  call('PEXPIRE', stream, ttl)
end

local position = offset .. ':' .. epoch
local receipt = position .. ':' .. call('PUBLISH', ARGV[2], '1p' .. position .. ':' .. publication)
if result then call('SET', result, receipt, 'PX', ARGV[9]) end
return receipt
