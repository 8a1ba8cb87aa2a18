-- Stands before scripts that read where streams stand, with lineage.lua before it. Their first arguments are the meta
-- ttl, how long an epoch lasts that nobody has published under (ms), and a new epoch for each stream, in one, of eight
-- characters each; the last one is the identity.
-- Numbers stay the strings they are where they can: each conversion costs as much as half a command.
local call = redis.call

-- Answers {epoch, offset, where former epochs ended} of the nth; makes the epoch if there is none. Without offset nobody
-- has published under it: what the stream holds then is another's, which publish.lua removes.
local function top_of(meta, number)
  local top = call('HMGET', meta, 'e', 's', 'l')
  if not top[1] then
    top[1] = go_on(meta, false, '0', false, ARGV[#ARGV], string.sub(ARGV[3], number * 8 - 7, number * 8))
    call('PEXPIRE', meta, ARGV[2])
    return top
  end
  -- rewritten once in a part of its life, not with each look
  local left = call('PTTL', meta)
  if top[2] then
    if left < ARGV[1] * 0.9 then call('PEXPIRE', meta, ARGV[1]) end
  elseif left < tonumber(ARGV[2]) then
    call('PEXPIRE', meta, 2 * ARGV[2])
  end
  return top
end

-- What is answered of one that fails: it is nothing to the others. If all do, the error is the answer, and seen as such.
local function failed(why)
  if type(why) == 'table' then why = why.err end
  if not string.find(why, '^%u+ ') then why = 'ERR ' .. why end -- Redis before 7 says where it was first
  return {{err = why}, false, false}
end
