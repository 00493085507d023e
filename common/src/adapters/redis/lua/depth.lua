-- soon: how many milliseconds that is. For each lane over the shards of KEYS: ready, waiting, of these due soon,
-- running, since when the oldest is ready, whether it is paused, and the totals.
local TOTALS, answer = {'arrived', 'ended', 'busy', 'calls', 'failed', 'expired'}, {}
local after, soon = '(' .. text(now), text(now + ARGV[2])
for at, lane in ipairs({'interactive', 'batch'}) do
  local ready, waiting, due_soon, held, oldest, totals = 0, 0, 0, 0, now, {0, 0, 0, 0, 0, 0}
  local paused = 0
  local fields = {}
  for of, what in ipairs(TOTALS) do fields[of] = lane .. ' ' .. what end
  for _, key in ipairs(KEYS) do
    P = key
    local idle, leases = P .. ':idle:' .. lane, P .. ':held:' .. lane
    ready = ready + redis.call('ZCOUNT', idle, '-inf', now) + redis.call('ZCOUNT', leases, '-inf', now)
    waiting = waiting + redis.call('ZCOUNT', idle, after, '+inf') + redis.call('ZCARD', P .. ':blocked:' .. lane)
    due_soon = due_soon + redis.call('ZCOUNT', idle, after, soon)
    held = held + redis.call('ZCOUNT', leases, after, '+inf')
    if is_paused(lane) then paused = 1 end
    local top = redis.call('ZRANGE', idle, 0, 0, 'WITHSCORES')[2]
    if top then oldest = math.min(oldest, tonumber(top)) end
    for of, sum in ipairs(redis.call('HMGET', P .. ':totals', unpack(fields))) do
      totals[of] = totals[of] + (tonumber(sum) or 0)
    end
  end
  answer[at] = {ready, waiting, due_soon, held, now - oldest, paused, unpack(totals)}
end
return answer
