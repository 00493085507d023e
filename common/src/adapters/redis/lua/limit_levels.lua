-- Changes nothing; `common/src/limiter/levels.rs` explains it. Calls under way, and calls given up; then of each limit
-- that there is: its place, from 0 (4 is concurrency), its units, those left, its debt, and what was used of how much.
-- `0 - n`, for `-n` may be a zero with a sign.
begin(true)
local t, later = p.through, placed_later(p.now)
local answer = {text(p.running), text(p.expired)}
local function add(...)
  for _, number in ipairs({...}) do answer[#answer + 1] = text(number) end
end
local function lately(of) return t.calls > 0 and floordiv(of, t.calls) * recent_calls() or 0 end
for d = 1, 4 do
  local m = p.m[d]
  if m.base > 0 then
    local there = MODE == 'bucket' and m.sure or (m.base - m.spent - m.held + later[d]) * PARTS
    local left = floordiv(math.max(math.min(m.pace, there), 0), PARTS)
    local debt = floordiv(math.max(0 - m.pace - m.placed * PARTS, 0), PARTS)
    add(d - 1, m.rate, left, debt, lately(t.units[d]), m.rate)
  end
end
if CONCURRENCY then
  local left = CONCURRENCY - p.running
  add(4, CONCURRENCY, math.max(left, 0), math.max(0 - left, 0), lately(t.millis), CONCURRENCY * 60000)
end
return answer
