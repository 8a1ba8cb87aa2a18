-- Tell which positions are not the tops of their streams, and see that the streams' epochs last. Usually writes nothing.
-- KEYS: meta of each stream    ARGV: meta ttl (ms), then of each stream: offset, epoch, how long it must last (ms)
-- Answers the numbers of those that are not; negative where a stream of the same epoch ends before the position.
local wrong, meta_ttl = {}, tonumber(ARGV[1])
for number, meta in ipairs(KEYS) do
  local at = number * 3
  local offset, epoch, hold = ARGV[at - 1], ARGV[at], tonumber(ARGV[at + 1])
  local top = redis.pcall('HMGET', meta, 'e', 's')
  if not top.err then
    if top[1] then
      -- rewritten once in half a life, not with each look; a stream that nobody has published to has a short one
      local life, least = 2 * hold, hold
      if top[2] then life, least = meta_ttl, math.max(meta_ttl / 2, math.min(meta_ttl, hold)) end
      -- a server that refuses writes (NOREPLICAS, MISCONF) can still say where its streams end
      if redis.call('PTTL', meta) < least then redis.pcall('PEXPIRE', meta, life) end
    end
    local same = epoch == '' or top[1] == epoch
    if not same or (top[2] or '0') ~= offset then
      local back = top[1] == epoch and tonumber(offset) > tonumber(top[2] or '0')
      wrong[#wrong + 1] = back and -number or number
    end
  end
end
return wrong
