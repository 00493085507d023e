-- r, epoch
local job = load(ARGV[2])
if not is_owned_by(job, ARGV[3]) or not is_live(job) then return {'fenced'} end
put(job, {['until'] = now + TTL, challenged = false})
place(job, 'held', now + TTL)
not_due(job)
if job.expires <= now then return {'expired'} end
if job.cancel then return {'cancel'} end
return {'ok'}
