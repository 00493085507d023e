-- r...: nobody acts on these hints. Jobs that wait for theirs only become due now.
for at = 2, #ARGV do
  local job = load(ARGV[at])
  if is_open(job) and job.due == 'timer' and job.attempt == 0 then
    local due = tonumber(redis.call('ZSCORE', P .. ':timers:' .. job.lane, job.r))
    if due == job.created + HINT_GRACE or due == job.created + HINT_LOST then make_due(job, now) end
  end
end
return {'ok'}
