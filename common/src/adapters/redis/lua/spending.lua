-- tenant
local sums = redis.call('HMGET', P .. ':budget:' .. today(), 'spent ' .. ARGV[2], 'held ' .. ARGV[2])
return {sums[1] or '0', sums[2] or '0', text(now)}
