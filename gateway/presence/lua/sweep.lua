-- Take out some of what an owner has left in a channel.
-- KEYS: summary, index, members    ARGV: channel, owner, how many at most
-- Answers what was taken out: client, value, client, value, ...
local taken = redis.call('HRANDFIELD', KEYS[3], ARGV[3], 'WITHVALUES')
for at = 1, #taken, 2 do
  take_out(KEYS[3], taken[at], taken[at + 1])
end
clear(ARGV[1], ARGV[2], KEYS[2], KEYS[3])
return taken
