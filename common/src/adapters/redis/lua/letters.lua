-- limit, uuid before: dead letters of this shard, newest first
local top = ARGV[3] == '' and '+' or '(' .. ARGV[3]
local answer = {}
for _, uuid in ipairs(redis.call('ZREVRANGEBYLEX', P .. ':letters', top, '-', 'LIMIT', 0, ARGV[2])) do
  answer[#answer + 1] = record(redis.call('HGET', P .. ':letter-of', uuid) .. ':' .. uuid)
end
return answer
