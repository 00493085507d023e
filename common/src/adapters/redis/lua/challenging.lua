-- Marks a live lease and wakes its owner; true when it was not marked before.
local function challenge(job)
  if not is_open(job) or not is_live(job) or job.challenged then return false end
  put(job, {challenged = now + CHALLENGE})
  place(job, 'held', math.min(job['until'], job.challenged))
  signal(job, 'challenge')
  -- A claim before that answers busy.
  make_due(job, job.challenged)
  return true
end
