-- The due index of one shard. `timers:<lane>` has what becomes due, by time. `ready:<lane>:<tenant>` has
-- what is due, by order of accept. `heads:<lane>` has the oldest ready job of each tenant, by how many of
-- the tenant's jobs run and then by that order, so its first member is whose turn it is.
local function running(tenant) return tonumber(redis.call('HGET', P .. ':running', tenant) or '0') end

local function refresh(lane, tenant)
  local top = redis.call('ZRANGE', P .. ':ready:' .. lane .. ':' .. tenant, 0, 0, 'WITHSCORES')
  local heads, shown = P .. ':heads:' .. lane, P .. ':shown:' .. lane
  local old = redis.call('HGET', shown, tenant)
  local new = top[1] and string.format('%016.0f %s', tonumber(top[2]), tenant)
  if old and old ~= new then
    redis.call('ZREM', heads, old)
    redis.call('HDEL', shown, tenant)
  end
  if new and old ~= new then
    redis.call('ZADD', heads, running(tenant), new)
    redis.call('HSET', shown, tenant, new)
  end
end

local function runs_more(job, by)
  local count = redis.call('HINCRBY', P .. ':running', job.tenant, by)
  if count <= 0 then redis.call('HDEL', P .. ':running', job.tenant) end
  for _, lane in ipairs({'interactive', 'batch'}) do
    local shown = redis.call('HGET', P .. ':shown:' .. lane, job.tenant)
    if shown then redis.call('ZADD', P .. ':heads:' .. lane, 'XX', count, shown) end
  end
end

local function not_due(job)
  if job.due == 'timer' then
    redis.call('ZREM', P .. ':timers:' .. job.lane, job.r)
  elseif job.due == 'ready' then
    redis.call('ZREM', P .. ':ready:' .. job.lane .. ':' .. job.tenant, job.r)
    refresh(job.lane, job.tenant)
  end
  put(job, {due = false})
end

-- Workers look at a shard every second anyway.
local SOON, told = 1500, false
local function make_due(job, at)
  not_due(job)
  if at <= now then
    redis.call('ZADD', P .. ':ready:' .. job.lane .. ':' .. job.tenant, job.version, job.r)
    put(job, {due = 'ready'})
    refresh(job.lane, job.tenant)
  else
    redis.call('ZADD', P .. ':timers:' .. job.lane, at, job.r)
    put(job, {due = 'timer'})
  end
  if at <= now + SOON and not told then
    told = true
    redis.call('PUBLISH', everywhere('due'), string.match(P, '{s(%d+)}$'))
  end
end

-- Moves what has become due. `unheard` counts those that had a hint nobody acted on.
local unheard = 0
local function ripen(lane)
  local ripe = redis.call('ZRANGEBYSCORE', P .. ':timers:' .. lane, '-inf', now, 'LIMIT', 0, 500, 'WITHSCORES')
  local tenants = {}
  for at = 1, #ripe, 2 do
    local r = ripe[at]
    redis.call('ZREM', P .. ':timers:' .. lane, r)
    local version, created, attempt = unpack(redis.call('HMGET', P .. ':job:' .. r, 'version', 'created', 'attempt'))
    if version then
      local waited = tonumber(ripe[at + 1]) - tonumber(created)
      if attempt == '0' and (waited == HINT_GRACE or waited == HINT_LOST) then unheard = unheard + 1 end
      redis.call('ZADD', P .. ':ready:' .. lane .. ':' .. tenant_of(r), version, r)
      redis.call('HSET', P .. ':job:' .. r, 'due', 'ready')
      tenants[tenant_of(r)] = true
    end
  end
  for tenant in pairs(tenants) do refresh(lane, tenant) end
end
