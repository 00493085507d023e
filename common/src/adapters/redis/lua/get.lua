-- r...: their records; false for one that is unknown, 'gone' for one that is no longer kept
local answer = {}
for at = 2, #ARGV do
  local found = record(ARGV[at])
  if #found[1] == 0 then found = redis.call('ZSCORE', P .. ':gone', ARGV[at]) and 'gone' end
  answer[#answer + 1] = found
end
return answer
