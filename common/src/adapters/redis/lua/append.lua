-- r, epoch, first_seq, then kind, data of each event
local job = load(ARGV[2])
if not is_owned_by(job, ARGV[3]) then return {'fenced'} end
local first, count = tonumber(ARGV[4]), (#ARGV - 4) / 2
if first ~= job.last_seq + 1 then
  if first + count <= job.last_seq + 1 then return {'duplicate'} end
  return {'behind', job.last_seq}
end
local events = {}
for at = 5, #ARGV do events[#events + 1] = ARGV[at] end
emit(job, events)
return {'ok'}
