-- The time, the infos of workers that live, the ids of those that are gone, the ids of those that live and
-- whose process has no connection.
local infos, cut = {}, {}
for _, worker in ipairs(redis.call('ZRANGEBYSCORE', P .. ':alive', '(' .. text(now), '+inf')) do
  infos[#infos + 1] = redis.call('HGET', P .. ':info', worker)
  if redis.call('PUBSUB', 'SHARDNUMSUB', P .. ':lives:' .. worker)[2] == 0 then cut[#cut + 1] = worker end
end
return {text(now), infos, redis.call('ZRANGEBYSCORE', P .. ':alive', '-inf', now), cut}
