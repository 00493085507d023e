-- r of the dead letter, then lane, conversation, deadline, spec, queued, uuid of the new job
local _, r, lane, conv, deadline, spec, queued, uuid = unpack(ARGV)
if not redis.call('ZSCORE', P .. ':letters', uuid_of(r)) then return {'unknown'} end
local job = load(r)
local new = job.tenant .. ':' .. uuid
local earlier = job.replayed and job.tenant .. ':' .. job.replayed
if earlier and redis.call('EXISTS', P .. ':job:' .. earlier) == 1 then
  return {'job', record(earlier), earlier == new and 1 or 0}
end
insert({r = new, lane = lane, conv = conv ~= '' and conv, deadline = tonumber(deadline), spec = spec, queued = queued})
put(job, {replayed = uuid})
return {'job', record(new), 1}
