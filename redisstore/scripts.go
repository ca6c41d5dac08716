package redisstore

import "github.com/redis/go-redis/v9"

// Redis runs each Lua script as one atomic step. The scripts for revocations delete the lease first.
// A Redis without free memory still runs a script whose first write is DEL. A revocation therefore
// never fails for lack of memory, except while a Cluster moves its slot: each step is then a script of
// its own. The embedded Redis does not support the script flag allow-oom,
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

// replidLua reads the server's master_replid. It returns an empty text if the user
// may not run INFO. Such a server is never trusted.
const replidLua = `
local function replid()
  local info = redis.pcall('INFO', 'replication')
  return type(info) == 'string' and info:match('master_replid:(%x+)') or ''
end
`

var (
	// takeLease: KEYS the subject's lease, the session's lease; ARGV its value, its time to live in
	// milliseconds, the names of trusted servers. It returns the value of the subject's lease, which
	// all sessions share, and the master_replid. It returns nothing if another caller holds the
	// session's lease, or if this server is not trusted. A session's lease ends with the subject's,
	// whose value it begins with.
	takeLease = redis.NewScript(replidLua + `
local here = replid()
local shared, held = redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2])
if here == '' or not ARGV[3]:find(here, 1, true) or shared and held and held:find(shared, 1, true) then
  return false
end
shared = shared or ARGV[1]
redis.call('SET', KEYS[1], shared, 'PX', ARGV[2])
redis.call('SET', KEYS[2], shared .. ARGV[1], 'PX', ARGV[2])
return {shared, here}
`)

	// backfill: KEYS the subject's lease, the session's lease, session, generation; ARGV the value of
	// each lease, master_replid, entry, its expiry, generation, its expiry.
	// It refuses a lease of another server, because that server may have forgotten a revocation which
	// ended the lease. It never raises a generation: otherwise the entry of a session that RevokeAll
	// keeps would be out of date before the revocation is enforced.
	// It returns 0 if it stored nothing or only what has expired.
	backfill = redis.NewScript(replidLua + generationLua + `
if redis.call('GET', KEYS[1]) ~= ARGV[1] or redis.call('GET', KEYS[2]) ~= ARGV[2] or replid() ~= ARGV[3] then
  return 0
end
redis.call('DEL', KEYS[2])
local stored = generation(KEYS[4])
if stored and stored > tonumber(ARGV[6]) then
  return 0
end
redis.call('SET', KEYS[3], ARGV[4], 'PXAT', ARGV[5])
raise(KEYS[4], stored or ARGV[6], ARGV[7])
return redis.call('EXISTS', KEYS[3])
`)

	// apply: any number of KEYS; ARGV for each key what to do, a value, its expiry.
	// It never creates a generation; doc.go says why. It returns the master_replid.
	apply = redis.NewScript(replidLua + generationLua + `
for i, key in ipairs(KEYS) do
  local what, value, expiry = ARGV[3 * i - 2], ARGV[3 * i - 1], ARGV[3 * i]
  if what == 'del' then
    redis.call('DEL', key)
  elseif what == 'set' then
    redis.call('SET', key, value, 'PXAT', expiry)
  elseif generation(key) then
    raise(key, value, expiry)
  end
end
return replid()
`)
)

// The Lua scripts for rate limits repeat the rules of package limit, because only Redis can charge
// several rate limits in one step. The suite in limittest checks that both give the same results.
// A key's time to live is computed from the caller's clock, so Redis's own clock does not matter. If
// Redis is out of memory, these scripts fail, because revocations need the memory that is left. Each
// replica of this program then counts rate limits in its own memory.
const limitLua = `
local now, first, memory = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local stored = redis.call('MGET', unpack(KEYS))

local function rule(i)
  return tonumber(ARGV[1 + 3 * i]), tonumber(ARGV[2 + 3 * i]), tonumber(ARGV[3 + 3 * i])
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
  local burst, every, most = rule(i)
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
