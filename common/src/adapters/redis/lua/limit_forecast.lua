-- Changes nothing.
local SOONEST, LATEST = 10, 1000
begin(true)
local function typical(m) return math.max(floordiv(m.typical8, 8), 1) end
local paused = math.max(p.paused - p.now, 0)
local free = CONCURRENCY and math.max(CONCURRENCY - p.running, 0) or 4294967295
local calls = free
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
      local used = m.spent + m.held
      for _, slot in ipairs(slots_up_to(last_out(p.now + AHEAD))) do used = used - slot[2][d] end
      few = math.min(few, floordiv(math.max(m.base - used, 0), typical(m)))
    end
    calls = math.min(calls, few)
  end
end
local places = redis.call('ZRANGEBYSCORE', P .. ':places', '-inf', p.now)
local ripe = 0
for _, id in ipairs(places) do
  -- One that is given up is not there any more, though it is still stored.
  if tonumber(redis.call('ZSCORE', P .. ':until', id)) > p.now then ripe = ripe + 1 end
end
calls = math.max(calls, math.min(ripe, free))
local kept_back = 0
if p.head ~= '' and p.now < p.head_until then kept_back = p.head_until - p.now end
if paused > AHEAD or kept_back > 0 then calls = 0 end
if calls > 0 then return {text(calls), 0} end
local units = {}
for d = 1, 4 do units[d] = typical(p.m[d]) end
local wait, blocked = when(units)
wait = math.max(math.max(wait, paused) - AHEAD, 0)
if blocked or free == 0 then wait = math.max(wait, ASK_AGAIN / 2) end
return {'0', math.max(math.min(math.max(wait, SOONEST), LATEST), kept_back)}
