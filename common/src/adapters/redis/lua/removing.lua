-- Removes a terminal job with all that belongs to it, and remembers that it was there.
local function remove(job)
  local r, tenant, uuid = job.r, job.tenant, uuid_of(job.r)
  if job.key then redis.call('HDEL', P .. ':keys:' .. tenant, job.key) end
  for document in string.gmatch(redis.call('GET', P .. ':cites:' .. r) or '', '%S+') do
    if redis.call('HINCRBY', P .. ':cited', document, -1) <= 0 then redis.call('HDEL', P .. ':cited', document) end
  end
  redis.call('ZREM', P .. ':letters', uuid)
  redis.call('HDEL', P .. ':letter-of', uuid)
  redis.call('ZREM', P .. ':jobs:' .. tenant, uuid)
  redis.call('ZREM', P .. ':ended:' .. job.status .. ':' .. tenant, uuid)
  redis.call('ZREM', P .. ':finished', r)
  redis.call('ZREM', P .. ':logs', r)
  if job.c then
    redis.call('ZREM', P .. ':turns:' .. job.c, uuid)
    redis.call('ZREM', P .. ':told:' .. job.c, uuid)
  end
  for _, kind in ipairs({'job', 'spec', 'out', 'cites', 'log'}) do redis.call('UNLINK', P .. ':' .. kind .. ':' .. r) end
  redis.call('ZADD', P .. ':gone', now, r)
end

local function remove_conversation(c)
  redis.call('UNLINK', P .. ':conv:' .. c)
  redis.call('ZREM', P .. ':convs:' .. tenant_of(c), uuid_of(c))
  redis.call('ZADD', P .. ':gone', now, c)
end
