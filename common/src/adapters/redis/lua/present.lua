-- worker, info, how long the word lasts
redis.call('ZADD', P .. ':alive', now + ARGV[4], ARGV[2])
redis.call('HSET', P .. ':info', ARGV[2], ARGV[3])
return {redis.call('SISMEMBER', P .. ':drain', ARGV[2]), redis.call('SMEMBERS', P .. ':paused')}
