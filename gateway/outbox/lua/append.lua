-- What an app's events are kept by: the first four keys of each script are its queue, what is held in it, its meta data
-- and the apps that have any; the first five arguments its id, one of its keys, the most that wait, keep (ms), and the
-- bytes that these may have.
local queue, held, meta, pending = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local app, key, most, keep, room = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])

-- In microseconds, and later than the last event, whichever clock that was by.
local function now()
  local time = redis.call('TIME')
  return math.max(time[1] * 1000000 + time[2], tonumber(redis.call('HGET', meta, 'last') or 0) + 1)
end

local function whole(number)
  return string.format('%.0f', number)
end

-- Whether there is place for one more, in a set whose bytes are counted under a field of the meta data.
local function fits(set, field, member)
  if redis.call('ZCARD', set) >= most then return false end
  return tonumber(redis.call('HGET', meta, field) or 0) + #member <= room
end

-- What is held under a name and is not due yet, or nil.
local function taken_back(name, at)
  local member = redis.call('HGET', held, name)
  local due = member and redis.call('ZSCORE', queue, member)
  if due and tonumber(due) > at then
    redis.call('HDEL', held, name)
    redis.call('ZREM', queue, member)
    redis.call('HINCRBY', meta, 'bytes', -#member)
    return tonumber(due)
  end
end

-- Keep an event, due at some time; until then it can be taken back if it has a name. Answers -1 if there are too many.
local function append(at, due, name, body)
  local member = whole(at) .. '\n' .. name .. '\n' .. body
  if not fits(queue, 'bytes', member) then return -1 end
  redis.call('ZADD', queue, whole(due), member)
  redis.call('HINCRBY', meta, 'bytes', #member)
  redis.call('HSET', meta, 'last', whole(at))
  if key ~= '' then redis.call('HSET', meta, 'key', key) end
  redis.call('SADD', pending, app)
  if name ~= '' then
    redis.call('HSET', held, name, member)
    redis.call('PEXPIRE', held, keep)
  end
  for _, each in ipairs({queue, meta, pending}) do redis.call('PEXPIRE', each, keep) end
  return 1
end
