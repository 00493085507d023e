-- Changes nothing. The limit that binds first (its place, from 0; 4 is concurrency), so many units a minute, of
-- which a call takes so many, and the calls of the last minute; nothing when none is known to bind.
begin(true)
local t = p.through
local function mean(of) return t.calls > 0 and math.max(floordiv(of, t.calls), 1) or nil end
local millis = mean(t.millis)
local limit, units, per_call
local function bind(new_limit, new_units, new_per_call)
  if not limit or new_units / new_per_call < units / per_call then
    limit, units, per_call = new_limit, new_units, new_per_call
  end
end
for d = 1, 4 do
  local m = p.m[d]
  local asked = m.typical8 > 0 and math.max(floordiv(m.typical8, 8), 1) or nil
  local took = mean(t.units[d]) or asked
  if m.base > 0 and took then
    bind(d - 1, m.rate, took)
    if asked and millis then
      local room = MODE == 'bucket' and m.room or m.base
      bind(d - 1, math.max(floordiv(room, asked), 1) * 60000, millis)
    end
  end
end
if CONCURRENCY and millis then bind(4, CONCURRENCY * 60000, millis) end
if not limit then return {} end
return {limit, text(units), text(per_call), text(recent_calls())}
