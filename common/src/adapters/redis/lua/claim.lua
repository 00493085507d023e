-- r, owner, op, poison_data, poison_out
local job = load(ARGV[2])
local before = job and job.deaths
local what = try_claim(job, {owner = ARGV[3], op = ARGV[4], poison_data = ARGV[5], poison_out = ARGV[6]})
local died = job and job.deaths > before and 1 or 0
return {what, what == 'run' and run(job), died, ended}
