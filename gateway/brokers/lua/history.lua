-- Read parts of streams, and where these stand.
-- KEYS: meta and stream of each    ARGV: those of top.lua, limit (-1: all), reverse ('1'), whether a stream is one
-- publication as a plain value ('1'), and of each since ('': from the end)
-- Answers of each: epoch, offset, where former epochs ended, {{id, {'d', publication}}, ...}; only of the first ones if
-- that is enough for once, since everybody waits for it.
local ENOUGH, ENOUGH_BYTES = 128, 256 * 1024
local limit, reverse, plain = tonumber(ARGV[4]), ARGV[5] == '1', ARGV[6] == '1'

-- Answers nothing if the key is of another type.
local function try(...)
  local found = redis.pcall(...)
  if type(found) ~= 'table' or not found.err then return found end
  if not string.find(found.err, 'WRONGTYPE', 1, true) then return call(...) end
end

local function read_value(key, since)
  local value = try('GET', key)
  if not value then return value == false and {} or nil end
  local id, publication = string.match(value, '^(%d+):(.*)$')
  local offset = tonumber(id)
  local wanted = not since or (reverse and offset < since) or (not reverse and offset > since)
  return wanted and {{id, {'d', publication}}} or {}
end

local function read_stream(key, since)
  local range = {reverse and 'XREVRANGE' or 'XRANGE', key, reverse and '+' or '-', reverse and '-' or '+'}
  if since then range[3] = string.format('(%.0f-0', since) end
  if limit > 0 then
    range[5] = 'COUNT'
    range[6] = ARGV[4]
  end
  return try(unpack(range))
end

-- What a stream was before its size changed it may still be.
local function read(key, since)
  if plain then return read_value(key, since) or read_stream(key, since) or call('GET', key) end
  return read_stream(key, since) or read_value(key, since) or call('XRANGE', key, '-', '+')
end

local answers, count, bytes = {}, 0, 0
for number = 1, #KEYS / 2 do
  local top, since, entries = top_of(KEYS[number * 2 - 1], number), tonumber(ARGV[number + 6]), {}
  local offset = tonumber(top[2])
  local nothing = not offset or (since and (reverse and (since == 0 or since > offset) or not reverse and since >= offset))
  if not nothing then entries = read(KEYS[number * 2], since) end
  local at = number * 4
  answers[at - 3], answers[at - 2], answers[at - 1], answers[at] = top[1], top[2], top[3], entries
  for _, entry in ipairs(entries) do bytes = bytes + #entry[2][2] end
  count = count + #entries
  if count >= ENOUGH or bytes >= ENOUGH_BYTES then break end
end
return answers
