-- moment, workers...: forgets those that have not said that they live since
for at = 3, #ARGV do
  local word = redis.call('ZSCORE', P .. ':alive', ARGV[at])
  if word and tonumber(word) <= tonumber(ARGV[2]) then
    redis.call('ZREM', P .. ':alive', ARGV[at])
    redis.call('HDEL', P .. ':info', ARGV[at])
    redis.call('SREM', P .. ':drain', ARGV[at])
  end
end
return {'ok'}
