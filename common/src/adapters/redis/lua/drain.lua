-- worker
local word = redis.call('ZSCORE', P .. ':alive', ARGV[2])
if not word or tonumber(word) <= now then return {0} end
redis.call('SADD', P .. ':drain', ARGV[2])
return {1}
