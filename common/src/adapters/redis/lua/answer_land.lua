-- flight, answer, milliseconds to keep it, milliseconds to keep it where room is short
if redis.call('GET', KEYS[1] .. ':flight') ~= ARGV[1] then return 0 end
local memory = redis.call('INFO', 'memory')
local used = tonumber(string.match(memory, 'used_memory:(%d+)'))
local most = tonumber(string.match(memory, 'maxmemory:(%d+)'))
local keep = tonumber(ARGV[3])
-- Jobs come first: the other half is theirs.
if most > 0 and used * 2 > most then keep = math.min(keep, tonumber(ARGV[4])) end
redis.call('SET', KEYS[1] .. ':kept', ARGV[2], 'PX', keep)
redis.call('DEL', KEYS[1] .. ':flight')
return 1
