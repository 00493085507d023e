-- c, order (first, last), from (version), limit: records of the jobs that are history
local _, c, order, from, limit = unpack(ARGV)
if redis.call('EXISTS', P .. ':conv:' .. c) == 0 then
  return {redis.call('ZSCORE', P .. ':gone', c) and 'gone' or 'unknown'}
end
local uuids
if order == 'last' then
  uuids = redis.call('ZREVRANGE', P .. ':told:' .. c, 0, limit - 1)
else
  uuids = redis.call('ZRANGEBYSCORE', P .. ':told:' .. c, from, '+inf', 'LIMIT', 0, limit)
end
local records = {}
for _, uuid in ipairs(uuids) do records[#records + 1] = record(tenant_of(c) .. ':' .. uuid) end
return {'found', records}
