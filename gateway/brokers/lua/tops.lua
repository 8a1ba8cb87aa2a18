-- Read where streams stand.    KEYS: meta of each    ARGV: those of top.lua
-- Answers of each: epoch, offset, where former epochs ended. In place of an epoch: why it cannot be told.
local answers, some = {}, false
for number, meta in ipairs(KEYS) do
  local done, top = pcall(top_of, meta, number)
  if done then some = true else top = failed(top) end
  local at = number * 3
  answers[at - 2], answers[at - 1], answers[at] = top[1], top[2], top[3]
end
return some and answers or answers[1]
