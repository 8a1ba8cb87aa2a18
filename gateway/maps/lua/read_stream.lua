-- Read part of a map's changes and where it stands.
-- ARGV: limit (-1: all, 0: none), since ('': from the end), reverse, new epoch, ttl of the map, unpublished ttl (ms),
-- identity
-- Answers {offset, epoch, where former epochs ended, {{id, {'d', publication[, 't', tags]}}, ...}}.
local limit, since, reverse = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '1'
local epoch, offset, former = open_map(true, ARGV[4], ARGV[6], ARGV[7])
if offset ~= '0' then last(ARGV[5], meta, state, names, deadlines, versions) end
local nothing = reverse and since and (since == 0 or since > tonumber(offset))
if limit == 0 or nothing then return {offset, epoch, former, {}} end
local range = {reverse and 'XREVRANGE' or 'XRANGE', stream, reverse and '+' or '-', reverse and '-' or '+'}
if since then range[3] = '(' .. ARGV[2] .. '-0' end
if limit > 0 then
  range[5] = 'COUNT'
  range[6] = ARGV[1]
end
return {offset, epoch, former, call(unpack(range))}
