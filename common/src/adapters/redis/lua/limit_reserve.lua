-- call, ticket, requests, input, output
local call, ticket = args[1], args[2]
local units = units_of(3)

local function answer()
  if redis.call('HEXISTS', P .. ':held', call) == 1 then return {'granted'} end
  take_offer()
  for d = 1, 4 do
    local m = p.m[d]
    local limit = math.max(m.base, m.room)
    if m.base > 0 and units[d] > limit then return {'never', d - 1, text(limit), text(units[d])} end
  end
  local place = held(ticket)
  if place then
    local same = true
    for d = 1, 4 do same = same and place[1][d] == units[d] end
    if same then
      if place[2] > p.now then return {'at', place[2] - p.now} end
      local paused = math.max(p.paused - p.now, 0)
      local wait, blocked = when_kept(units)
      if paused > 0 or blocked or is_full() then
        wait = math.max(paused, ASK_AGAIN)
        redis.call('ZADD', P .. ':until', p.now + wait + PLACE_GRACE, ticket)
        return {'at', wait}
      end
      if wait > 0 then
        drop_place(ticket, units)
        hold_place(ticket, units, p.now + wait)
        return {'at', wait}
      end
      drop_place(ticket, units)
      hold(call, units, p.now, false, p.now + TTL)
      return {'granted'}
    end
    give_up_place(ticket, place[1])
  end
  for d = 1, 4 do
    local m = p.m[d]
    if m.typical8 == 0 then m.typical8 = units[d] * 8
    else m.typical8 = m.typical8 + units[d] - floordiv(m.typical8, 8) end
  end
  if p.head ~= '' and p.head ~= ticket and p.now < p.head_until then return {'park', ASK_AGAIN} end
  if is_full() then return {'park', ASK_AGAIN} end
  local paused = math.max(p.paused - p.now, 0)
  local wait, blocked = when(units)
  if blocked then
    p.head, p.head_until, p.head_units = ticket, p.now + HEAD, units
    return {'park', math.max(math.min(math.max(wait, ASK_AGAIN), HEAD), paused)}
  end
  p.head = ''
  if paused > 0 or wait > LINE then return {'park', math.max(wait, paused)} end
  for d = 1, 4 do
    local m = p.m[d]
    m.held = m.held + units[d]
    if m.base > 0 then
      m.pace = m.pace - units[d] * PARTS
      m.sure = m.sure - units[d] * PARTS
    end
  end
  if wait == 0 then
    hold(call, units, p.now, false, p.now + TTL)
    return {'granted'}
  end
  hold_place(ticket, units, p.now + wait)
  return {'at', wait}
end

begin(false)
local answered = answer()
save()
return answered
