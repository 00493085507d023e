-- lane, owner, op, poison_data, poison_out
local lane, op = ARGV[2], ARGV[4]
local by = {owner = ARGV[3], op = op, poison_data = ARGV[5], poison_out = ARGV[6]}
local died = 0
local again = redis.call('GET', P .. ':op:' .. op)
if again then
  local job = load(again)
  if is_open(job) and job.owner and job.op == op then return {'run', run(job), died, ended, unheard} end
end
if is_paused(lane) then return {'none', false, died, ended} end
ripen(lane)
-- Jobs that turn out to be busy or waiting leave the index: the first has a watched lease, the second
-- becomes due when its turn comes. More than these at once would make others wait.
for _ = 1, 50 do
  local head = redis.call('ZRANGE', P .. ':heads:' .. lane, 0, 0)[1]
  if not head then return {'none', false, died, ended, unheard} end
  local tenant = string.match(head, ' (.+)$')
  local r = redis.call('ZRANGE', P .. ':ready:' .. lane .. ':' .. tenant, 0, 0)[1]
  local job = load(r)
  if not job then
    redis.call('ZREM', P .. ':ready:' .. lane .. ':' .. tenant, r)
    refresh(lane, tenant)
  else
    local before = job.deaths
    not_due(job)
    local what = try_claim(job, by)
    if job.deaths > before then died = died + 1 end
    if what == 'run' then
      redis.call('SET', P .. ':op:' .. op, r, 'PX', 60000)
      return {'run', run(job), died, ended, unheard}
    end
    if what == 'expired' then return {'expired', r, died, ended, unheard} end
  end
end
return {'more', false, died, ended, unheard}
