-- Writes a new job, its first event and its place in the conversation, and makes it due in case its hint
-- is never confirmed, or at once. `new`: at_once, r, lane, conv, key, not_before, deadline, spec, queued, scheduled (the data of
-- `job.queued` for a job that may start now, and for one that may start then), expected (to start, if it may start now).
local function insert(new)
  local version = next_version()
  local starts = new.not_before and new.not_before > now and new.not_before
  local tenant, uuid = tenant_of(new.r), uuid_of(new.r)
  local job = {r = new.r, tenant = tenant, last_seq = 0}
  local expires = (starts or now) + new.deadline
  put(job, {
    version = version, status = 'queued', lane = new.lane, conv = new.conv, attempt = 0, deaths = 0,
    epoch = 0, created = now, ready_at = starts or now, expires = expires, key = new.key,
  })
  redis.call('SET', P .. ':spec:' .. job.r, new.spec)
  redis.call('ZADD', P .. ':deadlines', expires, job.r)
  redis.call('ZADD', P .. ':jobs:' .. tenant, version, uuid)
  redis.call('ZADD', P .. ':live:' .. tenant, version, uuid)
  if job.conv then
    job.c = tenant .. ':' .. job.conv
    redis.call('ZADD', P .. ':open:' .. job.c, version, job.r)
    redis.call('ZADD', P .. ':turns:' .. job.c, version, uuid)
  end
  local data = new.queued
  if starts then data = new.scheduled elseif not is_head(job) then data = '{}' end
  emit(job, {'job.queued', data})
  if not is_head(job) then
    put(job, {wait = 'conversation', wait_at = starts})
    place(job, 'blocked', version)
  else
    if starts then put(job, {wait = 'scheduled', wait_at = starts}) else put(job, {wait_at = new.expected}) end
    place(job, 'idle', job.ready_at)
    if not starts then tally(job, 'arrived', 1) end
  end
  if starts then
    make_due(job, starts)
  elseif not job.wait then
    make_due(job, new.at_once and now or now + HINT_GRACE)
  end
end
