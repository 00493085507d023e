-- r, '': challenges that job and whatever else its owner holds here; answers the owner, '' when there was
-- nothing new to mark. Or '', owner: what that owner holds here; answers whether there was any.
local owner = ARGV[3]
if ARGV[2] ~= '' then
  local job = load(ARGV[2])
  if not challenge(job) then return {''} end
  owner = job.owner
end
local any = ARGV[2] ~= ''
for _, r in ipairs(redis.call('SMEMBERS', P .. ':owner:' .. owner)) do
  any = challenge(load(r)) or any
end
return {any and owner or ''}
