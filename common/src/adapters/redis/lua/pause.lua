-- lane, '1' or '0'. In each shard, where it is obeyed, and where workers are, who hear of it.
local _, lane, paused = unpack(ARGV)
redis.call(paused == '1' and 'SADD' or 'SREM', P .. ':paused', lane)
local shard = string.match(P, '{s(%d+)}$')
if shard and paused == '0' then redis.call('PUBLISH', everywhere('due'), shard) end
return {'ok'}
