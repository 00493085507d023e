-- Ready, waiting, running, and since when the oldest is ready, of each lane over the shards of KEYS.
local answer = {}
for at, lane in ipairs({'interactive', 'batch'}) do
  local ready, waiting, held, oldest = 0, 0, 0, now
  for _, key in ipairs(KEYS) do
    P = key
    local idle, leases = P .. ':idle:' .. lane, P .. ':held:' .. lane
    ready = ready + redis.call('ZCOUNT', idle, '-inf', now) + redis.call('ZCOUNT', leases, '-inf', now)
    waiting = waiting + redis.call('ZCOUNT', idle, '(' .. text(now), '+inf') + redis.call('ZCARD', P .. ':blocked:' .. lane)
    held = held + redis.call('ZCOUNT', leases, '(' .. text(now), '+inf')
    local top = redis.call('ZRANGE', idle, 0, 0, 'WITHSCORES')[2]
    if top then oldest = math.min(oldest, tonumber(top)) end
  end
  answer[at] = {ready, waiting, held, now - oldest}
end
return answer
