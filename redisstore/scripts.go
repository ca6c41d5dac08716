package redisstore

import "github.com/redis/go-redis/v9"

// Each script is one step for every reader. It begins by deleting the lease, for a
// second reason too: a Redis that is out of memory still runs a script whose first
// write frees some, so a revocation never fails for lack of memory. (The script
// flag allow-oom does the same, but the embedded Redis does not support it.) As in
// Look, a generation that is not a number or not a string counts as missing.
const generationLua = `
local function generation(key)
  local stored = redis.pcall('GET', key)
  return type(stored) == 'string' and stored:match('^%d+$') and tonumber(stored)
end

-- Neither the generation nor its expiry ever goes down.
local function raise(key, to, expiry)
  local stored = generation(key)
  if stored then
    to = math.max(tonumber(to), stored)
    expiry = math.max(tonumber(expiry), redis.call('PEXPIRETIME', key))
  end
  redis.call('SET', key, to, 'PXAT', expiry)
end
`

// lineageLua reads the server's lineage; see lineage.go. It returns an empty text
// if the user may not run INFO. An entry that is written with it is never believed.
const lineageLua = `
local function lineage()
  local info = redis.pcall('INFO', 'replication')
  return type(info) == 'string' and info:match('` + replidField + `:(%x+)') or ''
end
`

var (
	// takeLease: KEYS lease; ARGV its value, its time to live in milliseconds.
	// It returns the lineage, or nothing if another caller holds the lease.
	takeLease = redis.NewScript(lineageLua + `
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then
  return false
end
return lineage()
`)

	// backfill: KEYS lease, session, generation;
	// ARGV lease, lineage, entry, its expiry, generation, its expiry.
	// It never raises a generation, because the revocation that did so in the ledger may not have
	// dropped the kept session's entry yet.
	// It returns 0 if it stored nothing or only what has expired. It refuses a lease of another
	// lineage: a rollback of the data may have restored a lease that was given up before.
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
raise(KEYS[3], stored or ARGV[5], ARGV[6])
return redis.call('EXISTS', KEYS[2])
`)

	// revokeSession: KEYS lease, session; ARGV ended entry, expiry.
	revokeSession = redis.NewScript(`
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[2], ARGV[1], 'PXAT', ARGV[2])
return 1
`)

	// revokeToken: KEYS lease, session, revoked token; ARGV expiry.
	// It deletes the entry. The next backfill writes one that lists the token.
	revokeToken = redis.NewScript(`
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('SET', KEYS[3], '1', 'PXAT', ARGV[1])
return 1
`)

	// raiseGeneration: KEYS lease, generation and, if one is kept, its session;
	// ARGV generation, expiry. It never creates a generation; doc.go says why.
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

// The scripts of the rate limits repeat the rules of package limit, because only
// Redis can charge several keys in one step. The suite in limittest holds both to
// the same results. Times to live count from the caller's now, so Redis's own clock
// does not matter. These scripts free no memory first: the last memory belongs to
// revocations, and without it each replica keeps limits of its own.
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

-- A bucket: the time at which it is full again.
local function full(i)
  local at = (stored[i] or ''):match('^%d+$')
  return short(at) and tonumber(at) or 0
end

-- A backoff counter: the number of charges, the time of the last one, the time of the one before.
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
	// chargeLimits: KEYS the buckets and backoff counters; ARGV now, the first
	// wait, the longest wait and the memory of a backoff counter, then burst and
	// every of each rule. It returns the values from before the charge.
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

	// refundLimits: KEYS and ARGV as for chargeLimits.
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
