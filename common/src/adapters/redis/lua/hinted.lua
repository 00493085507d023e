-- r...: the broker holds these hints. The due index waits long enough to notice a lost one.
for at = 2, #ARGV do
  local job = load(ARGV[at])
  if is_open(job) and job.due == 'timer' and job.attempt == 0 then
    local timers = P .. ':timers:' .. job.lane
    if tonumber(redis.call('ZSCORE', timers, job.r)) == job.created + HINT_GRACE then
      redis.call('ZADD', timers, job.created + HINT_LOST, job.r)
    end
  end
end
return {'ok'}
