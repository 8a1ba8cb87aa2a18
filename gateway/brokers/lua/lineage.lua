-- Stands before scripts that begin an epoch, with replication_id.lua before it.

-- An epoch is one sequence of publications, for it is written to under one history of data alone. Once the server holds
-- another one, which may lack what was published last, the stream goes on under a new epoch. Where the former ones
-- ended stays known (l, the last eight, "epoch:offset,..."): who has seen nothing beyond that misses nothing.
-- epoch, offset: where the stream stands, if there is one; known: the history that it was last written under, if that
-- is known; identity: the one held now, or '?'. Answers the epoch under which it goes on.
local function go_on(meta, epoch, offset, known, identity, new_epoch)
  -- what a connection has been told is an older truth than what the stream knows, where they differ
  if identity == '?' or (known and identity ~= '') then identity = replication_id() end
  if identity == '' or identity == '?' then identity = known end
  if epoch and identity == known then return epoch end
  if not epoch then
    redis.call('HSET', meta, 'e', new_epoch)
  elseif known then
    local former = redis.call('HGET', meta, 'l')
    former = (former and former .. ',' or '') .. epoch .. ':' .. offset
    local _, others = string.gsub(former, ',', '')
    if others == 8 then former = string.gsub(former, '^[^,]*,', '', 1) end
    redis.call('HSET', meta, 'e', new_epoch, 'l', former)
  else -- last written to by an older release, which leaves no trace
    new_epoch = epoch
  end
  if identity then redis.call('HSET', meta, 'r', identity) end
  return new_epoch
end
