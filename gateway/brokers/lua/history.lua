-- Read parts of streams, and where these stand.
-- KEYS: meta and stream of each    ARGV: those of top.lua, limit (-1: all), reverse ('1'), whether a stream is one
-- publication as a plain value ('1'), and of each since ('': from the end)
-- Answers of each: epoch, offset, where former epochs ended, {{id, {'d', publication}}, ...} or nothing; only of the first
-- ones if that is enough for once, since everybody waits for it. In place of an epoch: why it cannot be read.
local ENOUGH, ENOUGH_BYTES = 128, 256 * 1024
local limit, reverse, plain = ARGV[4], ARGV[5] == '1', ARGV[6] == '1'

-- Answers nothing if the key is of another type.
local function try(...)
  local found = redis.pcall(...)
  if type(found) ~= 'table' or not found.err then return found end
  if not string.find(found.err, 'WRONGTYPE', 1, true) then return call(...) end
end

local function read_value(key, since)
  local value = try('GET', key)
  if not value then return value end
  local id, publication = string.match(value, '^(%d+):(.*)$')
  local offset, bound = tonumber(id), tonumber(since)
  local wanted = not bound or (reverse and offset < bound) or (not reverse and offset > bound)
  return wanted and {{id, {'d', publication}}}
end

local function read_stream(key, since)
  local verb, first, last = 'XRANGE', '-', '+'
  if reverse then verb, first, last = 'XREVRANGE', '+', '-' end
  if since ~= '' then first = '(' .. since .. '-0' end
  if limit == '-1' then return try(verb, key, first, last) end
  return try(verb, key, first, last, 'COUNT', limit)
end

-- What a stream was before its size changed it may still be.
local function read(key, since)
  local first, second = read_stream, read_value
  if plain then first, second = read_value, read_stream end
  local found = first(key, since)
  if found == nil then found = second(key, since) end
  if found == nil then call('GET', key) end -- of neither type, which this says
  return found
end

-- Whether there can be nothing behind a position, or before it.
local function nothing(since, offset)
  if not offset or since == '' then return not offset end
  if not reverse then return since == offset end
  return since == '0' or tonumber(since) > tonumber(offset)
end

local function part(number)
  local top, since, entries = top_of(KEYS[number * 2 - 1], number), ARGV[number + 6], false
  if not nothing(since, top[2]) then entries = read(KEYS[number * 2], since) end
  return top, entries
end

local answers, count, bytes, some = {}, 0, 0, false
for number = 1, #KEYS / 2 do
  local done, top, entries = pcall(part, number)
  if done then some = true else top, entries = failed(top), false end
  local at = number * 4
  answers[at - 3], answers[at - 2], answers[at - 1], answers[at] = top[1], top[2], top[3], entries
  if entries then
    for _, entry in ipairs(entries) do bytes = bytes + #entry[2][2] end
    count = count + #entries
    if count >= ENOUGH or bytes >= ENOUGH_BYTES then break end
  end
end
return some and answers or answers[1]
