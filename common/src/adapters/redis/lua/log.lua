-- r, after, limit: whether it is over, where it ends, whether it is removed, and a part of it
local job = load(ARGV[2])
if not job then return {redis.call('ZSCORE', P .. ':gone', ARGV[2]) and 'gone' or 'unknown'} end
local events = redis.call('XRANGE', P .. ':log:' .. job.r, '(' .. ARGV[3] .. '-0', '+', 'COUNT', ARGV[4])
return {'log', is_open(job) and 0 or 1, job.last_seq, job.trimmed and 1 or 0, events}
