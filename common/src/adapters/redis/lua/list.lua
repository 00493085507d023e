-- tenant, key of the index to walk, uuid of the job before, limit, status, conversation
local _, tenant, key, before, limit, status, conv = unpack(ARGV)
local top = '+inf'
if before ~= '' then
  local version = redis.call('HGET', P .. ':job:' .. tenant .. ':' .. before, 'version')
  if not version then return {} end
  top = '(' .. version
end
local answer, offset = {}, 0
while true do
  local page = redis.call('ZREVRANGEBYSCORE', P .. key, top, '-inf', 'LIMIT', offset, 100)
  for _, uuid in ipairs(page) do
    local r = tenant .. ':' .. uuid
    local job = redis.call('HMGET', P .. ':job:' .. r, 'status', 'conv')
    if (status == '' or job[1] == status) and (conv == '' or job[2] == conv) then
      answer[#answer + 1] = record(r)
      if #answer == tonumber(limit) then return answer end
    end
  end
  if #page < 100 then return answer end
  offset = offset + 100
end
