-- Stands before a script that publishes, with one more key (the last: the channel's lease) and one more argument
-- (the last: what it must hold). Answers nothing, and nothing happens, if it holds something else by now.
if redis.call('GET', table.remove(KEYS)) ~= table.remove(ARGV) then return false end
