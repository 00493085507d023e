-- The time, the infos of workers that live, the ids of those that are gone.
local infos = {}
for _, worker in ipairs(redis.call('ZRANGEBYSCORE', P .. ':alive', '(' .. text(now), '+inf')) do
  infos[#infos + 1] = redis.call('HGET', P .. ':info', worker)
end
return {text(now), infos, redis.call('ZRANGEBYSCORE', P .. ':alive', '-inf', now)}
