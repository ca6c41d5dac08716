package redisstore

import "github.com/redis/go-redis/v9"

// Each script does its work at once for all readers, and begins by deleting the
// lease. That order has a second use: when memory is full, Redis lets a script
// finish whose first write frees memory, so a revocation is never refused for
// want of it. (The script flag allow-oom says the same, but the embedded Redis
// cannot read it.)
//
// A generation that is not a number, or not a string, counts as absent, as it
// does in a Look.
const generationLua = `
local function generation(key)
  local held = redis.pcall('GET', key)
  return type(held) == 'string' and held:match('^%d+$') and tonumber(held)
end

-- Neither the generation nor its expiry ever goes down.
local function raise(key, to, expiry)
  local held = generation(key)
  if held then
    to = math.max(tonumber(to), held)
    expiry = math.max(tonumber(expiry), redis.call('PEXPIRETIME', key))
  end
  redis.call('SET', key, to, 'PXAT', expiry)
end
`

var (
	// putBack: KEYS lease, session, generation;
	// ARGV lease, entry, its expiry, generation, its expiry.
	// It answers 0 when it stored nothing, or nothing that is not past already.
	putBack = redis.NewScript(generationLua + `
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[1])
local held = generation(KEYS[3])
if held and held > tonumber(ARGV[4]) then
  return 0
end
redis.call('SET', KEYS[2], ARGV[2], 'PXAT', ARGV[3])
raise(KEYS[3], ARGV[4], ARGV[5])
return redis.call('EXISTS', KEYS[2])
`)

	// endSession: KEYS lease, session; ARGV ended entry, expiry.
	endSession = redis.NewScript(`
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[2], ARGV[1], 'PXAT', ARGV[2])
return 1
`)

	// revokeToken: KEYS lease, session, token on the blacklist; ARGV expiry.
	// The entry goes, to be put back with the token in its list.
	revokeToken = redis.NewScript(`
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('SET', KEYS[3], '1', 'PXAT', ARGV[1])
return 1
`)

	// raiseGeneration: KEYS lease, generation and, if one is kept, its session;
	// ARGV generation, expiry. Why it creates none: doc.go.
	raiseGeneration = redis.NewScript(generationLua + `
redis.call('DEL', KEYS[1])
if KEYS[3] then
  redis.call('DEL', KEYS[3])
end
if generation(KEYS[2]) then
  raise(KEYS[2], ARGV[1], ARGV[2])
end
return 1
`)
)
