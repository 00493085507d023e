-- keep_jobs, keep_events. The places in KEYS of the shards in which a sweep would find something; then, for
-- each lane, the tenants with the longest lines of each shard, and how long those are.
local keep_jobs, keep_events = tonumber(ARGV[2]), tonumber(ARGV[3])
local limits = {
  {':obey', text(now)}, {':held:interactive', text(now)}, {':held:batch', text(now)}, {':deadlines', text(now)},
  {':logs', text(now - keep_events - 1)}, {':finished', text(now - keep_jobs - 1)}, {':gone', text(now - 4 * keep_jobs)},
  {':served', text(now - 3600000)},
}
local found = {}
for place, key in ipairs(KEYS) do
  for _, limit in ipairs(limits) do
    if redis.call('ZCOUNT', key .. limit[1], '-inf', limit[2]) > 0 then
      found[#found + 1] = place
      break
    end
  end
end
local lines = {{}, {}}
for at, lane in ipairs({'interactive', 'batch'}) do
  for _, key in ipairs(KEYS) do
    -- Two: one of them may be the tenant that asks.
    for _, part in ipairs(redis.call('ZREVRANGE', key .. ':waiting:' .. lane, 0, 1, 'WITHSCORES')) do
      table.insert(lines[at], part)
    end
  end
end
return {found, lines}
