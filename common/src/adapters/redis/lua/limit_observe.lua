-- call; wait in milliseconds of a refusal, '' when it was none; then of each dimension limit, what is left
-- and milliseconds until it is whole again, each '' when it was not said
local SIGHTS, MOST_UNITS, LOWERED, FLOOR, LOWER_EVERY = 3, 100000000000, 95, 500, 1000
begin(false)
local call = held(args[1])
if call and call[3] then call = nil end
local age = call and math.max(p.now - call[2], 0) or 0
for d = 1, 4 do
  local m, limit = p.m[d], tonumber(args[3 * d])
  if limit and limit >= 1 and limit <= MOST_UNITS then
    if m.told == 0 or limit < m.told then
      m.told, m.sights = limit, 0
    elseif limit == m.told then
      m.sights = 0
    elseif limit ~= m.next or m.sights == 0 then
      m.next, m.sights = limit, 1
    else
      m.sights = m.sights + 1
      if m.sights >= SIGHTS then m.told, m.sights = limit, 0 end
    end
  end
end
renew()

local SURPLUSES = 20
local function learn_charge(is_short, is_surplus)
  if is_short then
    p.whole, p.surpluses = true, 0
  elseif is_surplus then
    p.surpluses = p.surpluses + 1
    if p.surpluses >= SURPLUSES then p.whole, p.surpluses = false, 0 end
  else
    p.surpluses = 0
  end
end

-- A window begins between these two, if what was heard before agrees.
local function sight(earliest, latest)
  local f = p.phase
  local later = floordiv(earliest - f.earliest + WINDOW / 2, WINDOW) * WINDOW
  local from, to = math.max(earliest, f.earliest + later), math.min(latest, f.latest + later)
  if f.sights > 0 and from <= to then
    f.earliest, f.latest, f.sights = from, to, math.min(f.sights + 1, 4294967295)
  else
    p.phase = {earliest = earliest, latest = latest, sights = 1, since = p.now}
  end
end

for d = 1, 4 do
  local m, left, reset = p.m[d], tonumber(args[3 * d + 1]), tonumber(args[3 * d + 2])
  if MODE == 'window' and call and m.base > 0 and reset and reset >= 1 and reset <= WINDOW then
    sight(call[2] + reset, p.now + reset)
  end
  if left and m.base > 0 then
    left = math.min(left, MOST_UNITS)
    if MODE == 'bucket' then
      m.seen = math.max(m.seen, left)
      local most = math.min(left, m.base) * PARTS + m.rate * age
      local typical = math.max(floordiv(m.typical8, 8), 1) * PARTS
      -- A call that was refused was not charged; its request may have been.
      local refused = args[2] ~= '' and call and d > 1 and call[1][d] or 0
      local uncharged = (m.placed + refused) * PARTS
      local is_short = most + floordiv(typical, 4) < m.sure + uncharged
      local is_surplus = p.share == 1000 and most > m.sure + m.held * PARTS + 4 * typical
      local kept = p.whole and floordiv(typical, 4) or 0
      m.sure = math.min(m.sure, most - uncharged - kept)
      if d >= 3 then learn_charge(is_short, is_surplus) end
    else
      local foreign = m.base - left - m.spent - m.held
      if foreign > 0 and reset and reset > age then
        local units = {0, 0, 0, 0}
        units[d] = foreign
        spend(p.now, units)
      end
    end
  end
end
renew()
if args[2] ~= '' then
  p.paused = math.max(p.paused, p.now + tonumber(args[2]))
  if p.share_at + LOWER_EVERY <= p.now or p.share == 1000 then
    p.share = math.max(floordiv(p.share * LOWERED, 100), FLOOR)
    p.share_at = p.now
    renew()
  end
end
save()
return {'ok'}
