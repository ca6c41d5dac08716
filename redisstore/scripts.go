package redisstore

import "github.com/redis/go-redis/v9"

// Redis runs each Lua script as one atomic step. The scripts for revocations delete the lease first.
// A Redis without free memory still runs a script whose first write is DEL. A revocation therefore
// never fails for lack of memory. The embedded Redis does not support the script flag allow-oom,
// which has the same effect. A non-numeric generation counts as missing.
const generationLua = `
local function generation(key)
  local stored = redis.pcall('GET', key)
  return type(stored) == 'string' and stored:match('^%d+$') and tonumber(stored)
end

-- raise never lowers the generation or its expiry.
local function raise(key, to, expiry)
  local stored = generation(key)
  if stored then
    to = math.max(tonumber(to), stored)
    expiry = math.max(tonumber(expiry), redis.call('PEXPIRETIME', key))
  end
  redis.call('SET', key, to, 'PXAT', expiry)
end
`

// lineageLua reads the server's lineage; see lineage.go. It returns an empty text if the Redis user
// may not run INFO. An entry that is written with an empty lineage counts as missing in every Look.
const lineageLua = `
local function lineage()
  local info = redis.pcall('INFO', 'replication')
  return type(info) == 'string' and info:match('` + replidField + `:(%x+)') or ''
end
`

var (
	// takeLease takes a subject's lease. KEYS: lease; ARGV: its value, its time to live in
	// milliseconds. It returns the lineage, or nil if another caller holds the lease.
	takeLease = redis.NewScript(lineageLua + `
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then
  return false
end
return lineage()
`)

	// backfill stores a session's entry and generation. KEYS: lease, session, generation; ARGV:
	// lease, lineage, entry, expiry of the entry, generation, expiry of the generation. It returns 0
	// if it stored nothing or if the entry has expired. It refuses a lease of another lineage,
	// because a rollback of Redis may have restored a lease that a revocation had deleted.
	backfill = redis.NewScript(lineageLua + generationLua + `
if redis.call('GET', KEYS[1]) ~= ARGV[1] or lineage() ~= ARGV[2] then
  return 0
end
redis.call('DEL', KEYS[1])
local stored = generation(KEYS[3])
if stored and stored > tonumber(ARGV[5]) then
  return 0
end
redis.call('SET', KEYS[2], ARGV[3], 'PXAT', ARGV[4])
raise(KEYS[3], ARGV[5], ARGV[6])
return redis.call('EXISTS', KEYS[2])
`)

	// revokeSession marks a session as ended. KEYS: lease, session; ARGV: ended entry, expiry.
	revokeSession = redis.NewScript(`
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[2], ARGV[1], 'PXAT', ARGV[2])
return 1
`)

	// revokeToken marks one token as revoked. KEYS: lease, session, revoked token; ARGV: expiry. It
	// deletes the session's entry. The next backfill writes an entry that lists the token.
	revokeToken = redis.NewScript(`
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('SET', KEYS[3], '1', 'PXAT', ARGV[1])
return 1
`)

	// raiseGeneration revokes all sessions of older generations, except one that the user keeps.
	// KEYS: lease, generation, entry of the kept session; ARGV: generation, expiry. It deletes that
	// entry, which is then backfilled. It never creates a generation; doc.go says why.
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

// The Lua scripts for rate limits repeat the rules of package limit, because only Redis can charge
// several rate limits in one step. The suite in limittest checks that both give the same results.
// A key's time to live is computed from the caller's clock, so Redis's own clock does not matter. If
// Redis is out of memory, these scripts fail, because revocations need the memory that is left. Each
// replica of this program then counts rate limits in its own memory.
const limitLua = `
local now, first, most, memory = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local stored = redis.call('MGET', unpack(KEYS))

local function rule(i)
  return tonumber(ARGV[3 + 2 * i]), tonumber(ARGV[4 + 2 * i])
end

-- Lua cannot hold every number of more than 15 digits exactly.
local function short(number)
  return number and #number <= 15
end

-- full returns the time at which a bucket is full again.
local function full(i)
  local at = (stored[i] or ''):match('^%d+$')
  return short(at) and tonumber(at) or 0
end

-- charges reads a backoff counter: the number of charges, the times of the last charge and of the
-- charge before it.
local function charges(i)
  local count, last, before = (stored[i] or ''):match('^(%d+) (%d+) (%d+)$')
  if short(count) and short(last) and short(before) and last + memory > now then
    return tonumber(count), tonumber(last), tonumber(before)
  end
  return 0, 0, 0
end

local function text(n)
  return string.format('%.0f', n)
end
`

var (
	// chargeLimits charges all rate limits, or none if one of them refuses the charge. KEYS: the
	// keys of the rate limits; ARGV: see the function arguments. It returns the values that the keys
	// had before the charge.
	chargeLimits = redis.NewScript(limitLua + `
local values, ttls = {}, {}
for i = 1, #KEYS do
  local burst, every = rule(i)
  if every > 0 then
    local after = math.max(full(i), now) + every
    if after - now > burst * every then
      return stored
    end
    values[i], ttls[i] = text(after), after - now
  else
    local count, last = charges(i)
    if count >= burst and now < last + math.min(first * 2 ^ (count - burst), most) then
      return stored
    end
    local at = math.max(last, now)
    values[i] = text(count + 1) .. ' ' .. text(at) .. ' ' .. text(last)
    ttls[i] = at + memory - now
  end
end
for i = 1, #KEYS do
  redis.call('SET', KEYS[i], values[i], 'PX', text(ttls[i]))
end
return stored
`)

	// refundLimits takes back one charge of each rate limit. KEYS and ARGV are as for chargeLimits.
	refundLimits = redis.NewScript(limitLua + `
for i = 1, #KEYS do
  local _, every = rule(i)
  local value, ttl
  if every > 0 then
    local before = full(i) - every
    value, ttl = text(before), before - now
  else
    local count, _, before = charges(i)
    value = text(count - 1) .. ' ' .. text(before) .. ' ' .. text(before)
    ttl = count > 1 and before + memory - now or 0
  end
  if ttl > 0 then
    redis.call('SET', KEYS[i], value, 'PX', text(ttl))
  else
    redis.call('DEL', KEYS[i])
  end
end
return 1
`)
)
