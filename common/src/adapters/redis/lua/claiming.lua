-- What a claim of one job decides.
local function run(job)
  return {record(job.r), redis.call('XRANGE', P .. ':log:' .. job.r, '-', '+')}
end

-- `by`: owner, op, poison_data, poison_out. Answers run, done, busy, waiting, or expired: then the caller
-- folds the log and closes the job.
local function try_claim(job, by)
  if not is_open(job) then return 'done' end
  if job.owner and job.op == by.op then return 'run' end
  if is_live(job) then return 'busy' end
  if job.expires <= now then return 'expired' end
  if job.cancel then
    finish(job, cancelled())
    return 'done'
  end
  if job.ready_at > now or not is_head(job) then return 'waiting' end
  if is_paused(job.lane) then
    -- Its hint is used up.
    if job.due ~= 'ready' then make_due(job, now) end
    return 'waiting'
  end
  -- A job that lost its owner has a slot of its tenant already.
  if not job.owner and not has_room(job.tenant) then
    if job.wait ~= 'tenant' then
      emit(job, {'job.waiting', '{"reason":"tenant","not_before":null}'})
      put(job, {wait = 'tenant', wait_at = false})
    end
    place(job, 'blocked', job.version)
    make_ready(job)
    return 'waiting'
  end
  redis.call('ZADD', P .. ':served', now, job.tenant)
  if job.owner then
    put(job, {deaths = job.deaths + 1})
    if job.deaths >= MAX_DEATHS then
      finish(job, {status = 'failed', kind = 'job.failed', data = by.poison_data, out = by.poison_out})
      return 'done'
    end
  else
    runs_more(job, 1)
  end
  -- One that had to wait for a time; the others were counted when they could start.
  if job.attempt == 0 and job.wait then tally(job, 'arrived', 1) end
  not_due(job)
  settle(job)
  if job.owner then redis.call('SREM', P .. ':owner:' .. job.owner, job.r) end
  put(job, {
    status = 'in_progress', epoch = job.epoch + 1, attempt = job.attempt + 1, op = by.op, owner = by.owner,
    ['until'] = now + TTL, challenged = false, wait = false, wait_at = false, started = job.started or now,
    claimed = now,
  })
  redis.call('ZREM', P .. ':obey', job.r)
  redis.call('SADD', P .. ':owner:' .. by.owner, job.r)
  place(job, 'held', now + TTL)
  emit(job, {'attempt.started', string.format('{"attempt":%d,"worker":"%s"}', job.attempt, by.owner)})
  return 'run'
end
