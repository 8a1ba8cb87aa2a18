-- Read entries of a map in the order of their keys, and where it stands, as of one moment.
-- ARGV: limit (0: none), cursor (a key), the one key that is wanted ('': all), new epoch, whether it has a
-- stream, ttl of the map, unpublished ttl (ms), identity
-- Answers {offset, epoch, where former epochs ended, cursor, offset, publication, offset, publication, ...}.
local limit, cursor, wanted, new_epoch, streams = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4], ARGV[5] == '1'
local epoch, offset, former = open_map(streams, new_epoch, ARGV[7], ARGV[8])
if streams and offset ~= '0' then last(ARGV[6], meta, state, names, deadlines, versions) end

local answer = {offset, epoch, former, ''}
local keys = {}
if wanted ~= '' then
  keys = {wanted}
elseif limit ~= 0 then
  local from = cursor == '' and '-' or '(' .. cursor
  keys = call('ZRANGE', names, from, '+', 'BYLEX', 'LIMIT', 0, limit + 1)
  if #keys > limit then
    table.remove(keys)
    answer[4] = keys[limit]
  end
end
for _, key in ipairs(keys) do
  local entry = call('HGET', state, key)
  if entry then
    local at, publication = read_entry(entry)
    answer[#answer + 1] = at
    answer[#answer + 1] = publication
  end
end
return answer
