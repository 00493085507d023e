-- call; wait in milliseconds of a refusal, '' when it was none; then of each dimension limit, what is left
-- and milliseconds until it is whole again, each '' when it was not said
local SIGHTS, MOST_UNITS, LOWERED, FLOOR, LOWER_EVERY = 3, 100000000000, 95, 500, 1000
begin(false)
local since = held(args[1])
since = since and since[2] or p.now
local age = math.max(p.now - since, 0)
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

for d = 1, 4 do
  local m, left, reset = p.m[d], tonumber(args[3 * d + 1]), tonumber(args[3 * d + 2])
  if left and m.base > 0 then
    left = math.min(left, MOST_UNITS)
    if MODE == 'bucket' then
      m.seen = math.max(m.seen, left)
      local most = math.min(left, m.base) * PARTS + m.rate * age
      local call = math.max(floordiv(m.typical8, 8), 1) * PARTS
      local is_short = most + floordiv(call, 4) < m.sure
      local is_surplus = most > m.sure + m.held * PARTS + 4 * call
      m.sure = math.min(m.sure, most)
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
