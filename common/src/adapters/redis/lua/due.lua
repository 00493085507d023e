-- The due index of one shard. `timers:<lane>` has what becomes due, by time. `ready:<lane>:<tenant>` has
-- what is due, by order of accept; what lost its owner comes first. `heads:<lane>` has the first ready job of
-- each tenant that has room for it, by the tenant's turn and then by that order, so its first member is next.
-- `waiting:<lane>` says how many jobs of each tenant have a place here and could start.
local SOON, told = 1500, false -- Workers look at a shard every second anyway.
local function tell()
  if told then return end
  told = true
  redis.call('PUBLISH', everywhere('due'), string.match(P, '{s(%d+)}$'))
end

local function running(tenant) return tonumber(redis.call('HGET', P .. ':running', tenant) or '0') end

-- Weight, and how many jobs may run at a time.
local function share(tenant)
  local own = redis.call('HGET', P .. ':shares', tenant) or redis.call('HGET', P .. ':shares', '')
  if not own then return 1, nil end
  local weight, most = string.match(own, '^(%d+) (%d*)$')
  return tonumber(weight), tonumber(most)
end

local function has_room(tenant)
  local _, most = share(tenant)
  return not most or running(tenant) < most
end

-- As `Share::turn` has it.
local function turn(tenant)
  local weight = share(tenant)
  local served = tonumber(redis.call('ZSCORE', P .. ':served', tenant) or '0')
  served = math.max(0, math.floor((served - 1767225600000) / 10))
  return text(math.floor(running(tenant) * 32 / weight) * 100000000000 + math.min(served, 99999999999))
end

-- Answers whether a job is shown where none was.
local function refresh(lane, tenant)
  local top = redis.call('ZRANGE', P .. ':ready:' .. lane .. ':' .. tenant, 0, 0, 'WITHSCORES')
  local heads, shown = P .. ':heads:' .. lane, P .. ':shown:' .. lane
  local old = redis.call('HGET', shown, tenant)
  local first = top[1] and (tonumber(top[2]) == 0 or has_room(tenant))
  local new = first and string.format('%016.0f %s', tonumber(top[2]), tenant)
  if old and old ~= new then
    redis.call('ZREM', heads, old)
    redis.call('HDEL', shown, tenant)
  end
  if new then
    redis.call('ZADD', heads, turn(tenant), new)
    redis.call('HSET', shown, tenant, new)
  end
  return new and not old
end

local function runs_more(job, by)
  local count = redis.call('HINCRBY', P .. ':running', job.tenant, by)
  if count <= 0 then redis.call('HDEL', P .. ':running', job.tenant) end
  for _, lane in ipairs({'interactive', 'batch'}) do
    if refresh(lane, job.tenant) then tell() end
  end
end

local function in_line(lane, tenant, by)
  local counts = P .. ':waiting:' .. lane
  if tonumber(redis.call('ZINCRBY', counts, by, tenant)) <= 0 then redis.call('ZREM', counts, tenant) end
end

local function not_due(job)
  if job.due == 'timer' or job.due == 'later' then
    redis.call('ZREM', P .. ':timers:' .. job.lane, job.r)
  elseif job.due == 'ready' then
    redis.call('ZREM', P .. ':ready:' .. job.lane .. ':' .. job.tenant, job.r)
    refresh(job.lane, job.tenant)
  end
  if job.due == 'timer' or job.due == 'ready' then in_line(job.lane, job.tenant, -1) end
  put(job, {due = false})
end

local function make_ready(job)
  not_due(job)
  in_line(job.lane, job.tenant, 1)
  local place = job.owner and 0 or job.version
  redis.call('ZADD', P .. ':ready:' .. job.lane .. ':' .. job.tenant, place, job.r)
  put(job, {due = 'ready'})
  refresh(job.lane, job.tenant)
end

local function make_due(job, at)
  if at <= now then
    make_ready(job)
  else
    not_due(job)
    -- What may not start yet does not wait for a worker.
    local waits = job.ready_at <= now and not job.owner
    if waits then in_line(job.lane, job.tenant, 1) end
    redis.call('ZADD', P .. ':timers:' .. job.lane, at, job.r)
    put(job, {due = waits and 'timer' or 'later'})
  end
  if at <= now + SOON then tell() end
end

-- Moves what has become due. `unheard` counts those that had a hint nobody acted on.
local unheard = 0
local function ripen(lane)
  local ripe = redis.call('ZRANGEBYSCORE', P .. ':timers:' .. lane, '-inf', now, 'LIMIT', 0, 500, 'WITHSCORES')
  local tenants = {}
  for at = 1, #ripe, 2 do
    local r = ripe[at]
    redis.call('ZREM', P .. ':timers:' .. lane, r)
    local job = redis.call('HMGET', P .. ':job:' .. r, 'version', 'owner', 'due', 'created', 'attempt')
    if job[1] then
      local waited = tonumber(ripe[at + 1]) - tonumber(job[4])
      if job[5] == '0' and (waited == HINT_GRACE or waited == HINT_LOST) then unheard = unheard + 1 end
      if job[3] == 'later' then in_line(lane, tenant_of(r), 1) end
      redis.call('ZADD', P .. ':ready:' .. lane .. ':' .. tenant_of(r), job[2] and 0 or job[1], r)
      redis.call('HSET', P .. ':job:' .. r, 'due', 'ready')
      tenants[tenant_of(r)] = true
    end
  end
  for tenant in pairs(tenants) do refresh(lane, tenant) end
end
