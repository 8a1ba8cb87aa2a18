-- Answers by which clock the blocks of a list end: seconds and microseconds.
-- KEYS: list
return redis.call('TIME')
