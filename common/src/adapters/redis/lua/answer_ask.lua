-- KEYS[1] is a call's `<prefix>:{answer:<tenant>:<digest>}`; flight, milliseconds of its lease
local kept = redis.call('GET', KEYS[1] .. ':kept')
if kept then return {'kept', kept} end
local leader = redis.call('GET', KEYS[1] .. ':flight')
if leader and leader ~= ARGV[1] then return {'follow'} end
redis.call('SET', KEYS[1] .. ':flight', ARGV[1], 'PX', ARGV[2])
return {'lead'}
