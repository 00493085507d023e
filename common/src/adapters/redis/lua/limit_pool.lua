-- Shared by every script of the limiter: the same decisions as `common/src/limiter.rs`, which explains
-- them. All numbers are whole and below 2^53.
-- KEYS[1] is the prefix of a pool, `<prefix>:{quota:<pool>}`; every other key is made from it, so all lie in
-- one slot. ARGV: the time in milliseconds or '' for this server's clock, mode, burst_seconds,
-- concurrency or '', the four limits or 0; then what the script asks for.
local P = KEYS[1]
local PARTS, WINDOW, SLOT = 60000, 60000, 250
local TTL, LINE, PLACE_GRACE, ASK_AGAIN, HEAD, AHEAD = 30000, 60000, 5000, 100, 1000, 50
local LATE, MOST_ELAPSED, OFFER = 3600000, 600000, 100
local MODE, BURST, CONCURRENCY = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local LIMITS = {tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])}
local args = {unpack(ARGV, 9)}

local function floordiv(a, b) return (a - math.fmod(a, b)) / b end
local function ceildiv(a, b) return floordiv(a + b - 1, b) end
local function slot_of(at) return floordiv(at, SLOT) end
-- Lua would write large numbers with an exponent.
local function text(number) return string.format('%.0f', number) end

local clock
if ARGV[1] == '' then
  local time = redis.call('TIME')
  clock = time[1] * 1000 + math.floor(time[2] / 1000)
else
  clock = tonumber(ARGV[1])
end

-- A dry run changes nothing that is stored.
local p, dry
-- What a dry run would have added to the slots: {slot, units}, oldest first.
local unstored = {}

local function renew()
  for d = 1, 4 do
    local m, limit = p.m[d], LIMITS[d]
    if limit == 0 then m.base = m.told
    elseif m.told == 0 then m.base = limit
    else m.base = math.min(limit, m.told) end
    if m.base == 0 then
      m.rate, m.room, m.cap = 0, 0, 0
    else
      if m.rate == 0 then
        m.pace = -m.held * PARTS
        m.sure = m.pace
      end
      m.rate = math.max(floordiv(m.base * p.share, 1000), 1)
      m.cap = math.max(m.rate * BURST * 1000, PARTS)
      m.room = math.max(floordiv(m.base * BURST, 60), 1, math.min(m.seen, m.base))
    end
  end
end

-- Whether it is known when the provider's windows begin.
local function is_phased() return p.phase.sights >= 3 and p.now >= p.phase.since + 5000 end

-- When the window in which `at` lies is surely over.
local function over(at) return at + (p.phase.earliest - at) % WINDOW + p.phase.latest - p.phase.earliest end

-- When all that ended in a slot is out of its window, or of every one.
local function slot_end(slot)
  local at = (slot + 1) * SLOT
  return is_phased() and over(at) or at + WINDOW
end

-- The last slot of which that is true at `at`.
local function last_out(at)
  if not is_phased() then return slot_of(at - WINDOW) - 1 end
  local over = at - (p.phase.latest - p.phase.earliest)
  return slot_of(over - (over - p.phase.earliest) % WINDOW) - 1
end

local function most_sure(m) return (m.room - m.held) * PARTS end

local function spend(at, units)
  if units[1] + units[2] + units[3] + units[4] == 0 then return end
  local slot = text(slot_of(at))
  for d = 1, 4 do p.m[d].spent = p.m[d].spent + units[d] end
  if dry then
    unstored[#unstored + 1] = {slot_of(at), units}
    return
  end
  local before = redis.call('HGET', P .. ':spent', slot)
  if before then
    local sum = cmsgpack.unpack(before)
    for d = 1, 4 do units[d] = units[d] + sum[d] end
  end
  redis.call('HSET', P .. ':spent', slot, cmsgpack.pack(units))
end

-- The slots from the oldest one up to `last`, oldest first: {slot, units}.
local function slots_up_to(last)
  local names, found = {}, {}
  for slot = p.oldest, last do names[#names + 1] = text(slot) end
  for from = 1, #names, 500 do
    local values = redis.call('HMGET', P .. ':spent', unpack(names, from, math.min(from + 499, #names)))
    for n, value in ipairs(values) do
      if value then found[#found + 1] = {p.oldest + from + n - 2, cmsgpack.unpack(value)} end
    end
  end
  for _, slot in ipairs(unstored) do
    if slot[1] <= last then found[#found + 1] = slot end
  end
  return found
end

local function forget()
  local last = last_out(p.now)
  if last < p.oldest then return end
  if last - p.oldest > 4000 then
    -- Nobody asked for a quarter of an hour: all that is kept is old, or was just written.
    local all = redis.call('HGETALL', P .. ':spent')
    for at = 1, #all, 2 do
      if tonumber(all[at]) <= last then
        local units = cmsgpack.unpack(all[at + 1])
        for d = 1, 4 do p.m[d].spent = p.m[d].spent - units[d] end
        if not dry then redis.call('HDEL', P .. ':spent', all[at]) end
      end
    end
  else
    for _, old in ipairs(slots_up_to(last)) do
      for d = 1, 4 do p.m[d].spent = p.m[d].spent - old[2][d] end
      if not dry then redis.call('HDEL', P .. ':spent', text(old[1])) end
    end
  end
  p.oldest = last + 1
end

local function release(reserved, used)
  for d = 1, 4 do
    local m = p.m[d]
    m.held = m.held - reserved[d]
    if m.base > 0 then
      m.pace = m.pace + (reserved[d] - used[d]) * PARTS
      m.sure = math.min(m.sure + (reserved[d] - used[d]) * PARTS, most_sure(m))
    end
  end
  if MODE == 'window' then spend(p.now, {unpack(used)}) end
end

-- A call has ended that took so much: `common/src/limiter/through.rs`.
local MEMORY = 256
local function got_through(used, since)
  local t = p.through
  if t.calls >= MEMORY then
    t.calls, t.millis = floordiv(t.calls, 2), floordiv(t.millis, 2)
    for d = 1, 4 do t.units[d] = floordiv(t.units[d], 2) end
  end
  t.calls, t.this, t.millis = t.calls + 1, t.this + 1, t.millis + math.max(p.now - since, 0)
  for d = 1, 4 do t.units[d] = t.units[d] + used[d] end
end

local function count_minutes()
  p.through = p.through or {calls = 0, units = {0, 0, 0, 0}, millis = 0, minute = 0, this = 0, last = 0}
  local t, minute = p.through, floordiv(p.now, 60000)
  if minute ~= t.minute then
    t.last = minute == t.minute + 1 and t.this or 0
    t.this, t.minute = 0, minute
  end
end

-- Calls that ended within the last minute.
local function recent_calls()
  local t = p.through
  return t.this + floordiv(t.last * (60000 - p.now % 60000), 60000)
end

-- A granted call or a place in the line: {units, since, is_place}.
local function held(id)
  local value = redis.call('HGET', P .. ':held', id)
  return value and cmsgpack.unpack(value)
end

local function hold(id, units, since, is_place, ends)
  if is_place then redis.call('ZADD', P .. ':places', since, id) else p.running = p.running + 1 end
  redis.call('HSET', P .. ':held', id, cmsgpack.pack({units, since, is_place}))
  redis.call('ZADD', P .. ':until', ends, id)
end

local function drop(id, is_place)
  if not is_place then p.running = p.running - 1 end
  if dry then return end
  if is_place then redis.call('ZREM', P .. ':places', id) end
  redis.call('HDEL', P .. ':held', id)
  redis.call('ZREM', P .. ':until', id)
end

local function hold_place(id, units, at)
  for d = 1, 4 do p.m[d].placed = p.m[d].placed + units[d] end
  hold(id, units, at, true, at + PLACE_GRACE)
end

local function drop_place(id, units)
  drop(id, true)
  -- Workers that know nothing of this sum may have given or taken some of these places.
  local last = not dry and redis.call('ZCARD', P .. ':places') == 0
  for d = 1, 4 do p.m[d].placed = last and 0 or p.m[d].placed - units[d] end
end

local function give_up_place(id, units)
  drop_place(id, units)
  release(units, {0, 0, 0, 0})
end

local function recover()
  local minutes = floordiv(math.max(p.now - p.share_at, 0), 60000)
  if minutes > 0 then
    p.share = math.min(p.share + math.min(minutes, 100) * 10, 1000)
    p.share_at = p.share_at + minutes * 60000
  end
end

local function create()
  p = {now = clock, paused = 0, share = 1000, share_at = clock, head = '', head_until = 0, running = 0, expired = 0, whole = false,
    surpluses = 0, phase = {earliest = 0, latest = 0, sights = 0, since = 0}, m = {}}
  for d = 1, 4 do
    p.m[d] = {rate = 0, base = 0, room = 0, cap = 0, pace = 0, sure = 0, held = 0, placed = 0, seen = 0, typical8 = 0,
      told = 0, next = 0, sights = 0, spent = 0}
  end
  local slots, last = WINDOW / SLOT, slot_of(clock)
  p.oldest = last + 1 - slots
  if MODE == 'window' then
    for n = 0, slots - 1 do
      local units = {}
      for d = 1, 4 do
        units[d] = floordiv(LIMITS[d] * (n + 1), slots) - floordiv(LIMITS[d] * n, slots)
      end
      spend((last + n + 1 - slots) * SLOT, units)
    end
  end
  renew()
  count_minutes()
end

-- Brings everything to now.
local function begin(is_dry)
  dry = is_dry
  local stored = redis.call('GET', P .. ':pool')
  if not stored then return create() end
  p = cmsgpack.unpack(stored)
  local elapsed = math.min(math.max(clock - p.now, 0), MOST_ELAPSED)
  p.now = math.max(p.now, clock)
  p.expired = p.expired or 0
  p.phase = p.phase or {earliest = 0, latest = 0, sights = 0, since = 0}
  for d = 1, 4 do
    local m = p.m[d]
    m.placed = m.placed or 0
    if m.base > 0 then
      local refill = m.rate * elapsed
      m.pace = math.max(m.pace, math.min(m.pace + refill, m.cap))
      if MODE == 'bucket' then m.sure = math.min(m.sure + refill, most_sure(m)) end
    end
  end
  forget()
  recover()
  renew()
  count_minutes()
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. ':until', '-inf', p.now)) do
    local old = held(id)
    if old[3] then
      give_up_place(id, old[1])
    else
      drop(id, false)
      p.expired = p.expired + 1
      got_through(old[1], old[2])
      release(old[1], old[1])
      if not dry then
        redis.call('SET', P .. ':late:' .. id, cmsgpack.pack({old[1], p.now + LATE}), 'PX', LATE)
      end
    end
  end
end

-- Calls that were offered, and until when they count: {until, calls}, oldest first.
local function offers_now()
  local stored, offers = redis.call('GET', P .. ':offers'), {}
  for _, offer in ipairs(stored and cmsgpack.unpack(stored) or {}) do
    if p.now < offer[1] then offers[#offers + 1] = offer end
  end
  return offers
end

-- They end by the pool's time; the key only has to be gone some day.
local function keep_offers(offers)
  if #offers == 0 then redis.call('DEL', P .. ':offers')
  else redis.call('SET', P .. ':offers', cmsgpack.pack(offers), 'PX', 60000) end
end

-- Somebody came for what was offered.
local function take_offer()
  if redis.call('EXISTS', P .. ':offers') == 0 then return end
  local offers = offers_now()
  if offers[1] then
    offers[1][2] = offers[1][2] - 1
    if offers[1][2] == 0 then table.remove(offers, 1) end
  end
  keep_offers(offers)
end

local function save() redis.call('SET', P .. ':pool', cmsgpack.pack(p)) end

local function units_of(first)
  local input, output = tonumber(args[first + 1]), tonumber(args[first + 2])
  return {tonumber(args[first]), input, output, math.min(input + output, 100000000000)}
end

-- What a call took, by what is known of it: nothing, refused, unknown, or exactly, then in numbers.
local function taken(reserved, known, first)
  if known == 'nothing' then return {0, 0, 0, 0} end
  if known == 'refused' then return {1, 0, 0, 0} end
  if known == 'unknown' then return reserved end
  local used = units_of(first)
  if p.whole then
    used[3] = math.max(used[3], reserved[3])
    used[4] = math.min(used[2] + used[3], 100000000000)
  end
  return used
end

local function ticks(missing, m) return missing > 0 and ceildiv(missing, math.max(m.rate, 1)) or 0 end

local function when_sure(m, asked)
  if asked > m.room then return ticks(m.room * PARTS - m.sure, m), m.held > 0 end
  return ticks(asked * PARTS - m.sure, m), asked > m.room - m.held
end

-- What is kept for places in windows after that of `at`, if it is known when one begins.
local function placed_later(at)
  local sums = {0, 0, 0, 0}
  if MODE ~= 'window' or not is_phased() then return sums end
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. ':places', text(over(at)), '+inf')) do
    local units = held(id)[1]
    for d = 1, 4 do sums[d] = sums[d] + units[d] end
  end
  return sums
end

-- When a window has room for all that is held and asked for, and whether some call must end first. In this one
-- there may be room at once: what is kept for a `later` one is not of it.
local function when_window(d, held_units, later)
  local much = p.m[d].spent + held_units - p.m[d].base
  if much <= later then return 0, false end
  for _, slot in ipairs(slots_up_to(slot_of(p.now))) do
    much = much - slot[2][d]
    if much <= 0 then return math.max(slot_end(slot[1]) - p.now, 0), false end
  end
  return 0, true
end

-- When there is what a place was given for, and whether some call must end first.
local function when_kept(units)
  local wait, blocked = 0, false
  for d = 1, 4 do
    local m = p.m[d]
    if m.base > 0 and units[d] > 0 then
      local w, b
      if MODE == 'bucket' then w, b = ticks((math.min(units[d], m.room) - m.placed) * PARTS - m.sure, m), false
      else w, b = when_window(d, m.held - m.placed + units[d], 0) end
      wait, blocked = math.max(wait, w), blocked or b
    end
  end
  return wait, blocked
end

-- When a call of this size could start, apart from concurrency and pauses; and whether some call must
-- end first.
local function when(units)
  local wait, blocked, later = 0, false, placed_later(p.now)
  for d = 1, 4 do
    local m, asked = p.m[d], units[d]
    if m.base > 0 and asked > 0 then
      local w, b
      if MODE == 'bucket' then w, b = when_sure(m, asked)
      else w, b = when_window(d, m.held + asked, later[d]) end
      wait = math.max(wait, w, ticks(math.min(asked * PARTS, m.cap) - m.pace, m))
      blocked = blocked or b
    end
  end
  return wait, blocked
end

local function is_full() return CONCURRENCY and p.running >= CONCURRENCY end
