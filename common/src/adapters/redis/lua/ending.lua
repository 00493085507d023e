-- What every end of a job does, whoever asked for it.
local ended = {}

-- The job became the first open one of its conversation.
local function take_turn(r)
  local job = load(r)
  if not is_open(job) or job.owner then return end
  local at = math.max(job.ready_at, now)
  put(job, {ready_at = at})
  if at <= now then
    put(job, {wait = false, wait_at = false})
    tally(job, 'arrived', 1)
  end
  place(job, 'idle', at)
  make_due(job, at)
end

local function stops_running(job)
  if not job.owner then return end
  redis.call('SREM', P .. ':owner:' .. job.owner, job.r)
  runs_more(job, -1)
end

-- `last`: status, kind, data, out; perhaps tail (events before the last one), cites (documents),
-- op (the close that asks), quiet (its owner asks: no need to tell it).
local function finish(job, last)
  emit(job, last.tail or {})
  settle(job)
  emit(job, {last.kind, last.data})
  not_due(job)
  if job.owner and (last.status == 'completed' or last.status == 'incomplete') then
    tally(job, 'ended', 1)
    tally(job, 'busy', math.max(now - (job.claimed or now), 0))
    tally(job, 'calls', job.calls or 0)
  end
  if last.status == 'failed' or last.status == 'expired' then tally(job, last.status, 1) end
  if job.owner and not last.quiet then signal(job, 'cancel') end
  stops_running(job)
  place(job, nil)
  local r, tenant, uuid = job.r, job.tenant, uuid_of(job.r)
  redis.call('ZREM', P .. ':deadlines', r)
  redis.call('ZREM', P .. ':obey', r)
  redis.call('ZREM', P .. ':live:' .. tenant, uuid)
  redis.call('ZADD', P .. ':ended:' .. last.status .. ':' .. tenant, job.version, uuid)
  redis.call('ZADD', P .. ':finished', now, r)
  redis.call('ZADD', P .. ':logs', now, r)
  redis.call('SET', P .. ':out:' .. r, last.out)
  if last.cites and #last.cites > 0 then
    redis.call('SET', P .. ':cites:' .. r, table.concat(last.cites, ' '))
    for _, document in ipairs(last.cites) do redis.call('HINCRBY', P .. ':cited', document, 1) end
  end
  put(job, {
    status = last.status, finished = now, closed_by = last.op or false, wait = false, wait_at = false,
    owner = false, ['until'] = false, challenged = false, claimed = false, op = false,
  })
  if last.status == 'failed' then
    put(job, {buried = now})
    redis.call('ZADD', P .. ':letters', 0, uuid)
    redis.call('HSET', P .. ':letter-of', uuid, tenant)
  end
  ended[#ended + 1] = last.status .. ' ' .. text(now - job.created) .. ' ' .. text(job.attempt)
  if not job.c then return end
  if last.status == 'completed' or last.status == 'incomplete' then
    redis.call('ZADD', P .. ':told:' .. job.c, job.version, uuid)
  end
  local was_head = is_head(job)
  redis.call('ZREM', P .. ':open:' .. job.c, r)
  local following = was_head and redis.call('ZRANGE', P .. ':open:' .. job.c, 0, 0)[1]
  if following then take_turn(following) end
end

local function cancelled() return {status = 'cancelled', kind = 'job.cancelled', data = '{}', out = '{}'} end
