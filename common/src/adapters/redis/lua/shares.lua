-- tenant, `<weight> <most>`, ...; the tenant '' stands for those that are not named. In every shard of KEYS.
for _, key in ipairs(KEYS) do
  redis.call('DEL', key .. ':shares')
  if #ARGV > 1 then redis.call('HSET', key .. ':shares', unpack(ARGV, 2)) end
end
return {'ok'}
