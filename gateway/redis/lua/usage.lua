-- Answers the keys of a database, and of the server the bytes that it uses and may use (0 is without limit); -1 for what
-- is not told. Through a script, since an INFO that is refused costs some a connection.
-- ARGV: number of the database
local function told(section, pattern)
  local info = redis.pcall('INFO', section)
  if type(info) ~= 'string' then return nil, false end
  return tonumber(string.match(info, pattern)), true
end

local keys, known = told('keyspace', 'db' .. ARGV[1] .. ':keys=(%d+)')
local used = told('memory', 'used_memory:(%d+)')
local most = told('memory', 'maxmemory:(%d+)')
return {keys or (known and 0) or -1, used or -1, most or -1}
