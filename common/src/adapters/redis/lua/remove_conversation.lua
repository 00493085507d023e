-- c, op: removes a conversation with its jobs
local c = ARGV[2]
if redis.call('EXISTS', P .. ':conv:' .. c) == 0 then
  return {redis.call('GET', P .. ':op:' .. ARGV[3]) and 'removed' or 'unknown'}
end
if redis.call('ZCARD', P .. ':open:' .. c) > 0 then return {'open'} end
for _, uuid in ipairs(redis.call('ZRANGE', P .. ':turns:' .. c, 0, -1)) do
  local job = load(tenant_of(c) .. ':' .. uuid)
  if job then remove(job) end
end
remove_conversation(c)
redis.call('SET', P .. ':op:' .. ARGV[3], 'removed', 'PX', 60000)
return {'removed'}
