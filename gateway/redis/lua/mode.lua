-- Answers what kind of server this is: 'standalone' or 'cluster'; '' where that is not told. Through a script, since an
-- INFO that is refused costs some a connection.
local info = redis.pcall('INFO', 'server')
return type(info) == 'string' and string.match(info, 'redis_mode:(%w+)') or ''
