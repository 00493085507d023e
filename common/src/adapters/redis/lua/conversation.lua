-- c, create: when it was made and how many jobs it has
local c = ARGV[2]
local created = redis.call('GET', P .. ':conv:' .. c)
if not created then
  if ARGV[3] ~= 'create' then return {redis.call('ZSCORE', P .. ':gone', c) and 'gone' or 'unknown'} end
  created = text(now)
  redis.call('SET', P .. ':conv:' .. c, created)
  redis.call('ZADD', P .. ':convs:' .. tenant_of(c), 0, uuid_of(c))
end
return {'found', created, redis.call('ZCARD', P .. ':turns:' .. c)}
