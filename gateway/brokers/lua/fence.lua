-- Stands before a script that publishes, with one more key (the last: the channel's lease) and one more argument
-- (the first: what it must hold). Answers nothing, and nothing happens, if it holds something else by now.
if redis.call('GET', table.remove(KEYS)) ~= table.remove(ARGV, 1) then return false end
