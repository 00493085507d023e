-- What could start now; `common/src/limiter/forecast.rs` explains it. Stores nothing.
local SOONEST, LATEST = 10, 1000
begin(true)
local function typical(m) return math.max(floordiv(m.typical8, 8), 1) end
local free = CONCURRENCY and math.max(CONCURRENCY - p.running, 0) or 4294967295

local function usual_calls()
  local calls, later = free, placed_later(p.now + AHEAD)
  for d = 1, 4 do
    local m = p.m[d]
    if m.base > 0 then
      local whole, refill = typical(m) * PARTS, m.rate * AHEAD
      local pace = math.max(m.pace, math.min(m.pace + refill, m.cap))
      local few
      if whole > m.cap then few = pace >= m.cap and 1 or 0 else few = floordiv(math.max(pace, 0), whole) end
      if MODE == 'bucket' then
        local sure, room = math.min(m.sure + refill, most_sure(m)), m.room * PARTS
        if whole > room then few = math.min(few, sure >= room and 1 or 0)
        else few = math.min(few, floordiv(math.max(sure, 0), whole)) end
      else
        local used = m.spent + m.held - later[d]
        for _, slot in ipairs(slots_up_to(last_out(p.now + AHEAD))) do used = used - slot[2][d] end
        few = math.min(few, floordiv(math.max(m.base - used, 0), typical(m)))
      end
      calls = math.min(calls, few)
    end
  end
  return calls
end

local function until_near(units)
  local wait, blocked = when(units)
  wait = math.max(wait - AHEAD, 0)
  if blocked or free == 0 then return math.max(wait, ASK_AGAIN / 2) end
  return wait
end

-- Places that are to be taken now, and when the next one is. One that is given up is not there any more,
-- though it is still stored.
local function ripe_places()
  local ripe, next_at = 0, false
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. ':places', '-inf', p.now)) do
    if tonumber(redis.call('ZSCORE', P .. ':until', id)) > p.now then ripe = ripe + 1 end
  end
  local later = redis.call('ZRANGEBYSCORE', P .. ':places', '(' .. text(p.now), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  if later[2] then next_at = tonumber(later[2]) end
  return ripe, next_at
end

-- Calls, and until there is one.
local function openings()
  local paused = math.max(p.paused - p.now, 0)
  local calls, opens_in
  if p.head ~= '' and p.head_units and p.now < p.head_until + HEAD then
    opens_in = until_near(p.head_units)
    calls = math.min((opens_in == 0 or p.head_until <= p.now) and 1 or 0, free)
    opens_in = math.min(opens_in, math.max(p.head_until - p.now, 0))
  else
    local units = {}
    for d = 1, 4 do units[d] = typical(p.m[d]) end
    calls, opens_in = usual_calls(), until_near(units)
  end
  local ripe, next_at = ripe_places()
  if paused > AHEAD then calls, opens_in = 0, math.max(opens_in, paused - AHEAD)
  else calls = math.max(calls, math.min(ripe, free)) end
  if calls > 0 then return calls, 0 end
  local next_place = next_at and next_at - p.now or LATEST
  return 0, math.max(math.min(opens_in, math.max(next_place, paused), LATEST), SOONEST)
end
