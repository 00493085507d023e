-- Whose turn it is in each shard of KEYS, and when the next job becomes due: for each lane the number of
-- running jobs of that tenant and the job's version, and the first timer. Then the time, and how many jobs
-- became due whose hint nobody acted on.
local LANES, answer = {'interactive', 'batch'}, {}

-- Every worker asks once a second, and most shards have nothing for it: one command tells.
local function is_quiet()
  return redis.call('EXISTS', P .. ':heads:interactive', P .. ':timers:interactive', P .. ':heads:batch',
    P .. ':timers:batch') == 0
end

for _, key in ipairs(KEYS) do
  P = key
  local quiet = is_quiet()
  for _, lane in ipairs(LANES) do
    local head, timer = {}, {}
    if not quiet and not is_paused(lane) then
      ripen(lane)
      head = redis.call('ZRANGE', P .. ':heads:' .. lane, 0, 0, 'WITHSCORES')
      timer = redis.call('ZRANGE', P .. ':timers:' .. lane, 0, 0, 'WITHSCORES')
    end
    answer[#answer + 1] = head[2] or ''
    answer[#answer + 1] = head[1] and string.match(head[1], '^%d+') or ''
    answer[#answer + 1] = timer[2] or ''
  end
end
answer[#answer + 1] = text(now)
answer[#answer + 1] = unheard
return answer
