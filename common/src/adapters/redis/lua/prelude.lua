-- Shared by every script: the clock, a job's hash, its log, its places in the indexes.
-- KEYS[1] is the shard's prefix, `<prefix>:{s<n>}`; every other key is made from it, so all lie in one
-- slot. ARGV[1] is the time in milliseconds, or '' for this server's clock.
local P = KEYS[1]
local now, now_us
if ARGV[1] == '' then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
  now_us = time[1] * 1000000 + time[2]
else
  now = tonumber(ARGV[1])
  now_us = now * 1000
end

local TTL, CHALLENGE, CANCEL_GRACE, OWNER_GRACE = 10000, 400, 2000, 500
local HINT_GRACE, HINT_LOST, MAX_DEATHS = 5000, 30000, 3
local NUMBERS = {
  version = true, attempt = true, deaths = true, epoch = true, last_seq = true, created = true,
  started = true, finished = true, expires = true, ready_at = true, ['until'] = true,
  challenged = true,
}

-- Lua would write large numbers with an exponent.
local function text(number) return string.format('%.0f', number) end
local function tenant_of(r) return string.match(r, '^([^:]+):') end
local function uuid_of(r) return string.match(r, ':(.+)$') end
-- Channels of the whole store carry the prefix without the shard.
local function everywhere(name) return string.match(P, '^(.*):{') .. ':' .. name end

-- A job by its name `<tenant>:<uuid>`; nil when it is not kept.
local function load(r)
  local flat = redis.call('HGETALL', P .. ':job:' .. r)
  if #flat == 0 then return nil end
  local job = {r = r, tenant = tenant_of(r)}
  for at = 1, #flat, 2 do
    local field, value = flat[at], flat[at + 1]
    job[field] = NUMBERS[field] and tonumber(value) or value
  end
  if job.conv then job.c = job.tenant .. ':' .. job.conv end
  return job
end

-- Changes fields of a job, here and in the store; `false` removes one.
local function put(job, changes)
  local set, removed = {}, {}
  for field, value in pairs(changes) do
    if value then
      job[field] = value
      set[#set + 1] = field
      set[#set + 1] = value
    elseif job[field] ~= nil then
      job[field] = nil
      removed[#removed + 1] = field
    end
  end
  if #set > 0 then redis.call('HSET', P .. ':job:' .. job.r, unpack(set)) end
  if #removed > 0 then redis.call('HDEL', P .. ':job:' .. job.r, unpack(removed)) end
end

local function is_open(job) return job and (job.status == 'queued' or job.status == 'in_progress') end

local function is_live(job)
  return job.owner and now < job['until'] and (not job.challenged or now < job.challenged)
end

local function is_owned_by(job, epoch)
  return is_open(job) and job.owner and job.epoch == tonumber(epoch)
end

local function is_head(job)
  return not job.c or redis.call('ZRANGE', P .. ':open:' .. job.c, 0, 0)[1] == job.r
end

-- What a reader of the record needs.
local function record(r)
  return {
    redis.call('HGETALL', P .. ':job:' .. r),
    redis.call('GET', P .. ':spec:' .. r),
    redis.call('GET', P .. ':out:' .. r),
  }
end

-- Appends `{kind, data, kind, data, ...}` to the log and tells who follows it. The id of an entry is its
-- `seq`: the stream itself refuses one that is there already.
local function emit(job, events)
  local lines, seq = {}, job.last_seq
  for at = 1, #events, 2 do
    seq = seq + 1
    local event = text(job.attempt) .. ' ' .. text(now) .. ' ' .. events[at] .. ' ' .. events[at + 1]
    redis.call('XADD', P .. ':log:' .. job.r, text(seq) .. '-0', 'e', event)
    lines[#lines + 1] = text(seq) .. ' ' .. event
  end
  if #lines == 0 then return end
  put(job, {last_seq = seq})
  redis.call('SPUBLISH', P .. ':news:' .. job.r, table.concat(lines, '\n'))
end

local function signal(job, what)
  local message = what .. ' ' .. job.owner .. ' ' .. job.tenant .. ' ' .. uuid_of(job.r) .. ' ' .. text(job.epoch)
  redis.call('PUBLISH', everywhere('signals'), message)
end

-- Every open job is in one of `idle` (by when it could start), `blocked` (behind its conversation),
-- `held` (by when its lease ends): depth is counted from them.
local function place(job, where, score)
  if job.place and job.place ~= where then
    redis.call('ZREM', P .. ':' .. job.place .. ':' .. job.lane, job.r)
  end
  if where then redis.call('ZADD', P .. ':' .. where .. ':' .. job.lane, score, job.r) end
  if job.place ~= where then put(job, {place = where or false}) end
end

local function next_version()
  local last = tonumber(redis.call('GET', P .. ':version') or '0')
  local version = math.max(now_us, last + 1)
  redis.call('SET', P .. ':version', text(version))
  return version
end
