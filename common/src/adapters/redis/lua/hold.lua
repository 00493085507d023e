-- r, epoch, nano, what the job may spend in all, what its tenant may spend today ('' where nothing says)
local job = load(ARGV[2])
if not is_owned_by(job, ARGV[3]) then return {'fenced'} end
if job.call then return {'busy'} end
give_back(job)
local nano, per_job, per_day = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
if per_job and (job.counted or 0) + nano > per_job then return {'over_job', text(job.counted or 0)} end
local day = today()
local sums = redis.call('HMGET', P .. ':budget:' .. day, 'spent ' .. job.tenant, 'held ' .. job.tenant)
local spent, held = tonumber(sums[1] or '0'), tonumber(sums[2] or '0')
if per_day and spent + nano > per_day then return {'over_day', text(spent), text(held), text(now)} end
if per_day and spent + held + nano > per_day then return {'busy'} end
on_day(day, 'held', job.tenant, nano)
put(job, {held = day .. ' ' .. text(nano)})
return {'ok'}
