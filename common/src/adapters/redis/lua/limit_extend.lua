-- call
begin(false)
if redis.call('HEXISTS', P .. ':held', args[1]) == 1 then
  redis.call('ZADD', P .. ':until', p.now + TTL, args[1])
end
save()
return {'ok'}
