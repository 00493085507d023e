-- flight, milliseconds of its lease
if redis.call('GET', KEYS[1] .. ':flight') ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1] .. ':flight', ARGV[2])
