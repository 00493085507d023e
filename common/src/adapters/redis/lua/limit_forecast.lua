-- Changes nothing.
local calls, opens_in = openings()
return {text(calls), opens_in}
