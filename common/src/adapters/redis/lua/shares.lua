-- tenant, `<weight> <most>`, ...; the tenant '' stands for those that are not named. In every shard of KEYS.
-- Every process says this when it starts, and most say what is known: then nothing is written.
local wanted, count = {}, 0
for at = 2, #ARGV, 2 do
  wanted[ARGV[at]] = ARGV[at + 1]
  count = count + 2
end
local function is_known(flat)
  if #flat ~= count then return false end
  for at = 1, #flat, 2 do
    if wanted[flat[at]] ~= flat[at + 1] then return false end
  end
  return true
end
for _, key in ipairs(KEYS) do
  if not is_known(redis.call('HGETALL', key .. ':shares')) then
    redis.call('DEL', key .. ':shares')
    if count > 0 then redis.call('HSET', key .. ':shares', unpack(ARGV, 2)) end
  end
end
return {'ok'}
