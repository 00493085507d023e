-- r
challenge(load(ARGV[2]))
return {'ok'}
