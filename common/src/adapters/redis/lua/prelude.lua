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
  challenged = true, claimed = true, calls = true, input = true, output = true, nano = true, counted = true,
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

-- Money, in billionths of a dollar. `held` of a job is `<day> <nano>`, what its next or its open call may
-- cost; `call` is `<seq> <day>`, the event that opened it.
local function on_day(day, what, tenant, by)
  local key = P .. ':budget:' .. day
  redis.call('HINCRBY', key, what .. ' ' .. tenant, text(by))
  redis.call('PEXPIRE', key, 172800000)
end

local function today() return text(math.floor(now / 86400000)) end

-- Answers the day and the amount.
local function give_back(job)
  if not job.held then return nil, 0 end
  local day, nano = string.match(job.held, '^(%d+) (%d+)$')
  on_day(day, 'held', job.tenant, -nano)
  put(job, {held = false})
  return day, tonumber(nano)
end

local function call_began(job, seq)
  local day = job.held and string.match(job.held, '^%d+') or today()
  put(job, {call = text(seq) .. ' ' .. day})
end

local function call_ended(job, used)
  local day = job.call and string.match(job.call, ' (%d+)$') or today()
  local _, held = give_back(job)
  -- What nobody knows may be all that was held.
  local counted = used.certainty == 'exact' and used.nano_usd or math.max(used.nano_usd, held)
  on_day(day, 'spent', job.tenant, counted)
  local row = day .. ' ' .. job.tenant .. ' '
  local function count(what, by) redis.call('HINCRBY', P .. ':usage', row .. what .. ' ' .. used.model, text(by)) end
  count('calls', 1)
  count('input', used.input_tokens)
  count('output', used.output_tokens)
  count('nano', used.nano_usd)
  put(job, {
    call = false, calls = (job.calls or 0) + 1, input = (job.input or 0) + used.input_tokens,
    output = (job.output or 0) + used.output_tokens, nano = (job.nano or 0) + used.nano_usd,
    counted = (job.counted or 0) + counted,
  })
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
    if events[at] == 'model.called' then
      call_began(job, seq)
    elseif events[at] == 'usage.updated' then
      call_ended(job, cjson.decode(events[at + 1]))
    end
  end
  if #lines == 0 then return end
  put(job, {last_seq = seq})
  redis.call('SPUBLISH', P .. ':news:' .. job.r, table.concat(lines, '\n'))
end

-- The whole number nearest to a / b, of two the even one.
local function nearest(a, b)
  local rest = math.fmod(a, b)
  local whole = (a - rest) / b
  if 2 * rest > b or (2 * rest == b and whole % 2 == 1) then return whole + 1 end
  return whole
end

-- The last sign of life of a job's owner, and how many jobs it had then: it is asked when the first of them is lost,
-- for afterwards they are another's.
local function last_heard(job)
  local key = P .. ':heard:' .. job.owner
  local known = redis.call('GET', key)
  if known then
    local at, jobs = string.match(known, '^(%d+) (%d+)$')
    return tonumber(at), tonumber(jobs)
  end
  local jobs, at = redis.call('SMEMBERS', P .. ':owner:' .. job.owner), 0
  for _, r in ipairs(jobs) do
    for _, entry in ipairs(redis.call('XREVRANGE', P .. ':log:' .. r, '+', '-', 'COUNT', 1)) do
      local written, kind = string.match(entry[2][2], '^%S+ (%S+) (%S+)')
      -- The ends of jobs, and what else others write, are no sign of it.
      if not string.match(kind, '^job%.') then at = math.max(at, tonumber(written)) end
    end
  end
  local count = math.max(#jobs, 1)
  redis.call('SET', key, text(at) .. ' ' .. text(count), 'PX', 3 * TTL)
  return at, count
end

-- What a call has used of which only the log tells: `CallStarted::in_doubt`, which says why.
local function tokens_in_doubt(call, log, at, jobs)
  local function measured() return {ascii = 0, other = 0, pieces = 0} end
  local whole, rest, first, before, last = measured(), measured(), nil, nil, nil
  local function add(to, said)
    local _, begins = string.gsub(said, '[\192-\255]', '')
    local _, beyond = string.gsub(said, '[\128-\255]', '')
    to.ascii, to.other, to.pieces = to.ascii + #said - beyond, to.other + begins, to.pieces + 1
  end
  for _, piece in ipairs(log) do
    add(whole, piece.text)
    if first then add(rest, piece.text) end
    first = first or piece.at
    before, last = last or piece.at, piece.at
  end
  if not first then return 0 end
  local function thousandths(of)
    local tokens = math.ceil(of.ascii / 4) + of.other
    if not call.unmeasured then return tokens * call.output_per_thousand end
    return 1000 * (3 * of.pieces < 2 * tokens and tokens or of.pieces)
  end
  local every = math.max(last - before, 0)
  if at < last then at, jobs = last, 1 end
  local silent = at - last + math.floor(every / (2 * jobs))
  local unwritten = 0
  if silent <= math.max(250, 3 * every) then
    local came_in, pace = math.max(last - first, 0), call.pace or 0
    if pace > 0 and came_in < 100 or came_in == 0 then
      unwritten = math.floor(pace * silent / 1000) + 500
    else
      unwritten = math.floor(thousandths(rest) * silent / came_in) + 500
    end
  end
  return nearest(thousandths(whole) + unwritten, 1000)
end

-- The job loses its owner. A call that is still open may have been paid: it is booked by what the log holds
-- of its answer. Money that no call was made on is given back.
local function settle(job)
  if not job.call then
    give_back(job)
    return
  end
  local call, log = nil, {}
  local first = string.match(job.call, '^%d+') .. '-0'
  for _, entry in ipairs(redis.call('XRANGE', P .. ':log:' .. job.r, first, '+')) do
    local at, kind, data = string.match(entry[2][2], '^%S+ (%S+) (%S+) (.*)$')
    if kind == 'model.called' then
      call = cjson.decode(data)
    elseif kind == 'output_text.delta' then
      log[#log + 1] = {at = tonumber(at), text = cjson.decode(data).text}
    end
  end
  local output = tokens_in_doubt(call, log, last_heard(job))
  if type(call.max_output_tokens) == 'number' then output = math.min(output, call.max_output_tokens) end
  -- Whole billionths and parts apart: their product would be more than a number here holds exactly.
  local function price(per_million, tokens)
    local parts = per_million % 1000000
    return (per_million - parts) / 1000000 * tokens, parts * tokens
  end
  local input_nano, input_parts = price(call.price.input, call.input_tokens)
  local output_nano, output_parts = price(call.price.output, output)
  local nano = input_nano + output_nano + math.ceil((input_parts + output_parts) / 1000000)
  emit(job, {'usage.updated', string.format(
    '{"call":"%s","model":%s,"input_tokens":%.0f,"output_tokens":%.0f,"nano_usd":%.0f,"certainty":"in_doubt"}',
    call.call, cjson.encode(call.model), call.input_tokens, output, nano
  )})
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
    -- A program that knows no such counts may have left some.
    if redis.call('EXISTS', P .. ':idle:' .. job.lane) == 0 and not where then
      redis.call('DEL', P .. ':waiting:' .. job.lane)
    end
  end
  if where then redis.call('ZADD', P .. ':' .. where .. ':' .. job.lane, score, job.r) end
  if job.place ~= where then put(job, {place = where or false}) end
end

-- Counters that only grow, of a lane: arrived, ended, busy (milliseconds), calls, failed, expired.
local function tally(job, what, by) redis.call('HINCRBY', P .. ':totals', job.lane .. ' ' .. what, text(by)) end

local function is_paused(lane) return redis.call('SISMEMBER', P .. ':paused', lane) == 1 end

local function next_version()
  local last = tonumber(redis.call('GET', P .. ':version') or '0')
  local version = math.max(now_us, last + 1)
  redis.call('SET', P .. ':version', text(version))
  return version
end
