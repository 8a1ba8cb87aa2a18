-- Stands before scripts that must know which history of data this server holds: another one after each promotion,
-- restart and resynchronisation. '' where that is not told. '?' on a replica, whose id is its master's until it is
-- promoted. 64 bits of it are enough to tell any two apart.
local function replication_id()
  local info = redis.pcall('INFO', 'replication')
  if type(info) ~= 'string' then return '' end
  if not string.find(info, 'role:master', 1, true) then return '?' end
  return string.sub(string.match(info, 'master_replid:(%w+)') or '', 1, 16)
end
