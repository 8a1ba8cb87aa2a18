-- Stands before scripts that read where streams stand, with lineage.lua before it. Their first arguments are the meta
-- ttl, how long an epoch lasts that nobody has published under (ms), and a new epoch for each stream, in one, of eight
-- characters each; the last one is the identity.
local call = redis.call
local meta_ttl, unpublished_ttl = tonumber(ARGV[1]), tonumber(ARGV[2])

-- Answers {epoch, offset, where former epochs ended} of the nth; makes the epoch if there is none. Without offset nobody
-- has published under it: what the stream holds then is another's, which publish.lua removes.
local function top_of(meta, number)
  local top = call('HMGET', meta, 'e', 's', 'l')
  if not top[1] then
    top[1] = go_on(meta, false, '0', false, ARGV[#ARGV], string.sub(ARGV[3], number * 8 - 7, number * 8))
    call('PEXPIRE', meta, unpublished_ttl)
    return top
  end
  -- rewritten once in a part of its life, not with each look
  local life, least = 2 * unpublished_ttl, unpublished_ttl
  if top[2] then life, least = meta_ttl, meta_ttl * 0.9 end
  if call('PTTL', meta) < least then call('PEXPIRE', meta, life) end
  return top
end
