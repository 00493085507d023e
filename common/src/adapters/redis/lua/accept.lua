-- r, lane, conversation, known, on_busy, key, digest, not_before, deadline, spec, queued, scheduled,
-- crowd ('' or a number: below so many jobs in line, this one among them, the tenant is below its share),
-- refused (full: there is no room for new work; replays: only what was accepted before is answered),
-- expected ('' or when it is expected to start)
local _, r, lane, conv, known, on_busy, key, digest, not_before, deadline, spec, queued, scheduled, crowd,
  refused, expected = unpack(ARGV)
local tenant = tenant_of(r)
if key ~= '' then
  local used = redis.call('HGET', P .. ':keys:' .. tenant, key)
  if used then
    local uuid, body = string.match(used, '^(%S+) (%S+)$')
    if body ~= digest then return {'reused'} end
    return {'existing', record(tenant .. ':' .. uuid)}
  end
end
if redis.call('EXISTS', P .. ':job:' .. r) == 1 then return {'existing', record(r)} end
if refused ~= '' then return {refused} end
if conv ~= '' then
  local c = tenant .. ':' .. conv
  local exists = redis.call('EXISTS', P .. ':conv:' .. c) == 1
  if known == '1' and not exists then return {'no_conversation'} end
  local open = redis.call('ZRANGE', P .. ':open:' .. c, 0, -1)
  if open[1] and on_busy == 'reject' then return {'busy', uuid_of(open[1])} end
  if on_busy == 'interrupt' then
    for _, other in ipairs(open) do finish(load(other), cancelled()) end
  end
  if not exists then
    redis.call('SET', P .. ':conv:' .. c, text(now))
    redis.call('ZADD', P .. ':convs:' .. tenant, 0, conv)
  end
end
local in_line = tonumber(redis.call('ZSCORE', P .. ':waiting:' .. lane, tenant) or '0') + 1
if key ~= '' then redis.call('HSET', P .. ':keys:' .. tenant, key, uuid_of(r) .. ' ' .. digest) end
insert({
  r = r, lane = lane, conv = conv ~= '' and conv, key = key ~= '' and key, not_before = tonumber(not_before),
  deadline = tonumber(deadline), spec = spec, queued = queued, scheduled = scheduled,
  at_once = crowd ~= '' and in_line < tonumber(crowd), expected = tonumber(expected),
})
return {'created', record(r), ended}
