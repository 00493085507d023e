-- For each lane, the tenants with the longest lines of each shard of KEYS, and how long those are.
local AT_MOST = 100
local lines = {{}, {}}
for at, lane in ipairs({'interactive', 'batch'}) do
  for _, key in ipairs(KEYS) do
    for _, part in ipairs(redis.call('ZREVRANGE', key .. ':waiting:' .. lane, 0, AT_MOST - 1, 'WITHSCORES')) do
      table.insert(lines[at], part)
    end
  end
end
return lines
