-- Read where streams stand.    KEYS: meta of each    ARGV: those of top.lua
-- Answers of each: epoch, offset, where former epochs ended.
local answers = {}
for number, meta in ipairs(KEYS) do
  local top, at = top_of(meta, number), number * 3
  answers[at - 2], answers[at - 1], answers[at] = top[1], top[2], top[3]
end
return answers
