-- r
local job = load(ARGV[2])
if not job then
  if redis.call('ZSCORE', P .. ':gone', ARGV[2]) then return {'gone'} end
  return {'unknown'}
end
if is_open(job) then
  if is_live(job) then
    if not redis.call('ZSCORE', P .. ':obey', job.r) then
      redis.call('ZADD', P .. ':obey', now + CANCEL_GRACE, job.r)
    end
    put(job, {cancel = '1'})
    signal(job, 'cancel')
  else
    finish(job, cancelled())
  end
end
return {'job', record(job.r), ended}
