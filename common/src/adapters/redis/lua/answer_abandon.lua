-- flight
if redis.call('GET', KEYS[1] .. ':flight') == ARGV[1] then redis.call('DEL', KEYS[1] .. ':flight') end
return 1
