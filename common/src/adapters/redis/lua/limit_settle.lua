-- call, what is known (nothing, refused, unknown, exactly), requests, input, output
local call, known = args[1], args[2]
begin(false)
local reserved = held(call)
if reserved and not reserved[3] then
  drop(call, false)
  local used = taken(reserved[1], known, 3)
  if known == 'exactly' or known == 'unknown' then got_through(used, reserved[2]) end
  release(reserved[1], used)
elseif not reserved then
  local late = redis.call('GETDEL', P .. ':late:' .. call)
  late = late and cmsgpack.unpack(late)
  if late and p.now < late[2] then
    local used = taken(late[1], known, 3)
    for d = 1, 4 do
      local m = p.m[d]
      if m.base > 0 then
        m.pace = m.pace + (late[1][d] - used[d]) * PARTS
        if MODE == 'bucket' then
          m.sure = math.min(m.sure + (late[1][d] - used[d]) * PARTS, most_sure(m))
        end
      end
    end
  end
end
save()
return {'ok'}
