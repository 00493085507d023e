-- soon: how many milliseconds that is. For each lane over the shards of KEYS: ready, waiting, of these due soon,
-- running, since when the oldest is ready, whether it is paused, and the totals.
local LANES, TOTALS = {'interactive', 'batch'}, {'arrived', 'ended', 'busy', 'calls', 'failed', 'expired'}
local after, soon = '(' .. text(now), text(now + ARGV[2])
local answer, fields = {}, {}
for at, lane in ipairs(LANES) do
  answer[at] = {0, 0, 0, 0, 0, 0}
  for of, what in ipairs(TOTALS) do
    answer[at][6 + of] = 0
    fields[#fields + 1] = lane .. ' ' .. what
  end
end

-- Every process asks once a second, and most shards are as empty as they can be: one command tells.
local function is_quiet()
  return redis.call('EXISTS', P .. ':idle:interactive', P .. ':held:interactive', P .. ':blocked:interactive',
    P .. ':idle:batch', P .. ':held:batch', P .. ':blocked:batch', P .. ':paused') == 0
end

local function count(depth, lane)
  local idle, leases = P .. ':idle:' .. lane, P .. ':held:' .. lane
  depth[1] = depth[1] + redis.call('ZCOUNT', idle, '-inf', now) + redis.call('ZCOUNT', leases, '-inf', now)
  depth[2] = depth[2] + redis.call('ZCOUNT', idle, after, '+inf') + redis.call('ZCARD', P .. ':blocked:' .. lane)
  depth[3] = depth[3] + redis.call('ZCOUNT', idle, after, soon)
  depth[4] = depth[4] + redis.call('ZCOUNT', leases, after, '+inf')
  local top = redis.call('ZRANGE', idle, 0, 0, 'WITHSCORES')[2]
  if top then depth[5] = math.max(depth[5], now - tonumber(top)) end
  if is_paused(lane) then depth[6] = 1 end
end

for _, key in ipairs(KEYS) do
  P = key
  if not is_quiet() then
    for at, lane in ipairs(LANES) do count(answer[at], lane) end
  end
  for place, sum in ipairs(redis.call('HMGET', P .. ':totals', unpack(fields))) do
    local at = place > #TOTALS and 2 or 1
    local of = 6 + place - (at - 1) * #TOTALS
    answer[at][of] = answer[at][of] + tonumber(sum or 0)
  end
end
return answer
