-- r, epoch, not_before, reason, data of `job.waiting` for now, and for later
local _, r, epoch, not_before, reason, data_now, data_later = unpack(ARGV)
local job = load(r)
if is_open(job) and not job.owner and job.epoch == tonumber(epoch) and job.attempt > 0 then
  return {'ok'} -- A repetition: this epoch was given back already.
end
if not is_owned_by(job, epoch) then return {'fenced'} end
local at = tonumber(not_before)
if at and at <= now then at = nil end
settle(job)
emit(job, {'job.waiting', at and data_later or data_now})
stops_running(job)
put(job, {
  status = 'queued', owner = false, ['until'] = false, challenged = false, claimed = false, wait = reason,
  wait_at = at or false, ready_at = at or now,
})
redis.call('ZREM', P .. ':obey', r)
place(job, 'idle', job.ready_at)
make_due(job, job.ready_at)
return {'ok'}
