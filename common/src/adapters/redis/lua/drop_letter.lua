-- uuid, op: forgets a dead letter; its job stays
if redis.call('ZREM', P .. ':letters', ARGV[2]) == 0 then
  return {redis.call('GET', P .. ':op:' .. ARGV[3]) and 'dropped' or 'unknown'}
end
redis.call('HDEL', P .. ':letter-of', ARGV[2])
redis.call('SET', P .. ':op:' .. ARGV[3], 'dropped', 'PX', 60000)
return {'dropped'}
