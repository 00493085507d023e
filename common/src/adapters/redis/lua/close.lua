-- r, op, by (owner, anyone, deadline), epoch, first_seq (owner) or the log's end (deadline), status, kind,
-- data, out, the number of cited documents, the documents, then kind, data of each event of the tail
local r, op, by, status = ARGV[2], ARGV[3], ARGV[4], ARGV[7]
local epoch, seq = tonumber(ARGV[5]), tonumber(ARGV[6])
local job = load(r)
if not job then return {'fenced'} end
if not is_open(job) then
  if job.closed_by == op or (by == 'owner' and job.epoch == epoch and job.status == status) then return {'ok'} end
  return {'already', job.status}
end
local last = {status = status, kind = ARGV[8], data = ARGV[9], out = ARGV[10], op = op, cites = {}, tail = {}}
local cites = tonumber(ARGV[11])
for at = 12, 11 + cites do last.cites[#last.cites + 1] = ARGV[at] end
if by == 'owner' then
  if not is_owned_by(job, epoch) then return {'fenced'} end
  last.quiet = true
  -- What the log has already is not written twice.
  local known = math.max(0, job.last_seq + 1 - seq)
  for at = 12 + cites + 2 * known, #ARGV do last.tail[#last.tail + 1] = ARGV[at] end
elseif by == 'deadline' then
  local owned = is_live(job) and now < job.expires + OWNER_GRACE
  if job.expires > now or owned then return {'open'} end
  -- The end was made from a log that has grown since.
  if job.last_seq ~= seq then return {'again'} end
end
finish(job, last)
return {'ok', ended}
