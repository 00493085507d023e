-- most
local most = tonumber(args[1])
local calls, opens_in = openings()
local offers, offered = offers_now(), 0
for _, offer in ipairs(offers) do offered = offered + offer[2] end
local left = math.min(math.max(calls - offered, 0), most)
if left > 0 then
  offers[#offers + 1] = {p.now + OFFER, left}
  keep_offers(offers)
  return {text(left), 0}
end
return {'0', calls > 0 and SOONEST or opens_in}
