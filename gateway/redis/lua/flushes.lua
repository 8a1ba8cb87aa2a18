-- Answers how often this server has been emptied since its statistics began; -1 where that is not told.
local info = redis.pcall('INFO', 'commandstats')
if type(info) ~= 'string' then return -1 end
local count = 0
for command, calls in string.gmatch(info, 'cmdstat_(%w+):calls=(%d+)') do
  if command == 'flushall' or command == 'flushdb' then count = count + calls end
end
return count
