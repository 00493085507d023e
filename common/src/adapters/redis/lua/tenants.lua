-- For each shard of KEYS: tenant, waiting and running jobs, whether it is at its cap, and for how many
-- milliseconds its first due job has waited without one of its jobs beginning. Of very many tenants those with the
-- longest lines, those that run jobs, and those whose turn comes last.
local AT_MOST = 50
local LANES, answer = {'interactive', 'batch'}, {}
for _, key in ipairs(KEYS) do
  P = key
  local known, order = {}, {}
  local function meet(tenant)
    if not known[tenant] then
      known[tenant] = 0
      order[#order + 1] = tenant
    end
  end
  local runs = redis.call('HGETALL', P .. ':running')
  for at = 1, #runs, 2 do meet(runs[at]) end
  for _, lane in ipairs(LANES) do
    for _, tenant in ipairs(redis.call('ZREVRANGE', P .. ':waiting:' .. lane, 0, AT_MOST - 1)) do meet(tenant) end
    if not is_paused(lane) then
      for _, head in ipairs(redis.call('ZREVRANGE', P .. ':heads:' .. lane, 0, AT_MOST - 1)) do
        local tenant = string.match(head, ' (.+)$')
        meet(tenant)
        local r = redis.call('ZRANGE', P .. ':ready:' .. lane .. ':' .. tenant, 0, 0)[1]
        local since = r and tonumber(redis.call('HGET', P .. ':job:' .. r, 'ready_at'))
        if since then
          since = math.max(since, tonumber(redis.call('ZSCORE', P .. ':served', tenant) or '0'))
          known[tenant] = math.max(known[tenant], now - since)
        end
      end
    end
  end
  for _, tenant in ipairs(order) do
    local waits = 0
    for _, lane in ipairs(LANES) do
      waits = waits + tonumber(redis.call('ZSCORE', P .. ':waiting:' .. lane, tenant) or '0')
    end
    for _, part in ipairs({tenant, waits, running(tenant), has_room(tenant) and 0 or 1, known[tenant]}) do
      answer[#answer + 1] = part
    end
  end
end
return answer
