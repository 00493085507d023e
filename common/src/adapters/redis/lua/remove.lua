-- r, op: removes one job
local job = load(ARGV[2])
if not job then return {redis.call('GET', P .. ':op:' .. ARGV[3]) and 'removed' or 'unknown'} end
if is_open(job) then return {'open'} end
remove(job)
redis.call('SET', P .. ':op:' .. ARGV[3], 'removed', 'PX', 60000)
return {'removed'}
