-- A number above `floor` and above every version given in this shard; with `raise`, at least `floor`.
local floor, last = tonumber(ARGV[2]), tonumber(redis.call('GET', P .. ':version') or '0')
local version = ARGV[3] == 'raise' and math.max(floor, last) or math.max(now_us, floor + 1, last + 1)
if version > last then redis.call('SET', P .. ':version', text(version)) end
return text(version)
