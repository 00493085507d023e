-- tenant, uuid before, limit: newest first
local tenant, before = ARGV[2], ARGV[3]
local top = before == '' and '+' or '(' .. before
local answer = {}
for _, uuid in ipairs(redis.call('ZREVRANGEBYLEX', P .. ':convs:' .. tenant, top, '-', 'LIMIT', 0, ARGV[4])) do
  local c = tenant .. ':' .. uuid
  answer[#answer + 1] = {uuid, redis.call('GET', P .. ':conv:' .. c), redis.call('ZCARD', P .. ':turns:' .. c)}
end
return answer
