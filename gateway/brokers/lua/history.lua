-- Read part of a stream and its top position; makes the position (a new epoch) if there is none.
-- KEYS: meta, stream    ARGV: limit (-1: all), since ('': from the end), reverse ('1'), new epoch, meta ttl,
-- how long an epoch lasts that nobody has published under (ms), identity
-- Answers {offset, epoch, {{id, {'d', publication}}, ...}, where former epochs ended, if there were any}.
local meta, stream = KEYS[1], KEYS[2]
local limit, since, reverse = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '1'

local top = redis.call('HMGET', meta, 'e', 's', 'l')
local epoch, offset, former = top[1], top[2] or '0', top[3]
if not epoch then
  epoch = go_on(meta, epoch, offset, false, ARGV[7], ARGV[4])
  redis.call('DEL', stream)
end
if top[2] then
  redis.call('PEXPIRE', meta, ARGV[5])
elseif redis.call('PTTL', meta) < tonumber(ARGV[6]) then
  redis.call('PEXPIRE', meta, ARGV[6])
end

local nothing = reverse and since and (since == 0 or since > tonumber(offset))
if limit == 0 or nothing then return {offset, epoch, {}, former} end

if redis.call('TYPE', stream).ok == 'string' then
  local id, publication = string.match(redis.call('GET', stream), '^(%d+):(.*)$')
  local number = tonumber(id)
  local wanted = not since or (reverse and number < since) or (not reverse and number > since)
  return {offset, epoch, wanted and {{id, {'d', publication}}} or {}, former}
end

local range = {reverse and 'XREVRANGE' or 'XRANGE', stream, reverse and '+' or '-', reverse and '-' or '+'}
if since then range[3] = '(' .. ARGV[2] .. '-0' end
if limit > 0 then
  range[5] = 'COUNT'
  range[6] = ARGV[1]
end
return {offset, epoch, redis.call(unpack(range)), former}
