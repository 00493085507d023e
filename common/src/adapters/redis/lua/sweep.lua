-- keep_jobs, keep_events, then the workers that are gone. One round over one shard, at most so much of
-- each at a time. Answers counts, and the jobs past their deadline, which the caller closes.
local AT_ONCE = 200
local keep_jobs, keep_events = tonumber(ARGV[2]), tonumber(ARGV[3])
local function first(key, limit) return redis.call('ZRANGEBYSCORE', P .. key, '-inf', limit, 'LIMIT', 0, AT_ONCE) end
local disobeyed, challenged, lost, logs, jobs = 0, 0, 0, 0, 0
for _, r in ipairs(first(':obey', now)) do
  local job = load(r)
  if is_open(job) then
    finish(job, cancelled())
    disobeyed = disobeyed + 1
  else
    redis.call('ZREM', P .. ':obey', r)
  end
end
for at = 4, #ARGV do
  for _, r in ipairs(redis.call('SMEMBERS', P .. ':owner:' .. ARGV[at])) do
    if challenge(load(r)) then challenged = challenged + 1 end
  end
end
for _, lane in ipairs({'interactive', 'batch'}) do
  for _, r in ipairs(first(':held:' .. lane, now)) do
    local job = load(r)
    place(job, 'idle', job.ready_at)
    if not job.due then
      make_due(job, now)
      lost = lost + 1
    end
  end
end
redis.call('ZREMRANGEBYSCORE', P .. ':served', '-inf', now - 3600000)
local late = {}
for _, r in ipairs(first(':deadlines', now)) do
  local job = load(r)
  if not (is_live(job) and now < job.expires + OWNER_GRACE) then late[#late + 1] = r end
end
for _, r in ipairs(first(':logs', now - keep_events - 1)) do
  redis.call('UNLINK', P .. ':log:' .. r)
  redis.call('ZREM', P .. ':logs', r)
  put(load(r), {trimmed = '1'})
  logs = logs + 1
end
for _, r in ipairs(first(':finished', now - keep_jobs - 1)) do
  local job = load(r)
  remove(job)
  -- A conversation that holds nothing would stay for ever.
  if job.c and redis.call('EXISTS', P .. ':turns:' .. job.c) == 0 then remove_conversation(job.c) end
  jobs = jobs + 1
end
local forgotten = first(':gone', now - 4 * keep_jobs)
if #forgotten > 0 then redis.call('ZREM', P .. ':gone', unpack(forgotten)) end
return {disobeyed, challenged, lost, logs, jobs, late, ended}
