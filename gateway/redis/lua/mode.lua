-- Answers what kind of server this is: 'standalone' or 'cluster'; '' where that is not told. Through a script, since an
-- INFO that is refused costs some a connection.
local info = redis.pcall('INFO', 'server')
if type(info) ~= 'string' then return '' end
return string.match(info, 'redis_mode:(%w+)') or string.match(info, 'server_mode:(%w+)') or ''  -- the latter is Valkey's
