-- Answers which server this is, and which history of data it holds; empty where that is not told.
-- Through a script, since an INFO that is refused costs some a connection.
local found = {}
for _, section in ipairs({'server', 'replication'}) do
  local info = redis.pcall('INFO', section)
  if type(info) == 'string' then
    found[#found + 1] = string.match(info, 'run_id:(%w+)')
    found[#found + 1] = string.match(info, 'master_replid:(%w+)')
  end
end
return table.concat(found, ' ')
