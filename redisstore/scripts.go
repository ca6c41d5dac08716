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

// lineageLua reads what lineage.go describes. Where it may not, the answer is empty,
// and an entry that is written so is believed by nobody.
const lineageLua = `
local function lineage()
  local info = redis.pcall('INFO', 'replication')
  return type(info) == 'string' and info:match('` + replidField + `(%x+)') or ''
end
`

var (
	// takeLease: KEYS lease; ARGV its value, its time to live in milliseconds.
	// It answers the lineage, or nothing when the lease is another's.
	takeLease = redis.NewScript(lineageLua + `
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then
  return false
end
return lineage()
`)

	// putBack: KEYS lease, session, generation;
	// ARGV lease, lineage, entry, its expiry, generation, its expiry.
	// It answers 0 when it stored nothing, or nothing that is not past already. A lease
	// of another lineage may be one that was given up before the data went back.
	putBack = redis.NewScript(lineageLua + generationLua + `
if redis.call('GET', KEYS[1]) ~= ARGV[1] or lineage() ~= ARGV[2] then
  return 0
end
redis.call('DEL', KEYS[1])
local held = generation(KEYS[3])
if held and held > tonumber(ARGV[5]) then
  return 0
end
redis.call('SET', KEYS[2], ARGV[3], 'PXAT', ARGV[4])
raise(KEYS[3], ARGV[5], ARGV[6])
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

// The scripts of the limits know the rules of package limit once more, as Redis
// alone can take of several keys at once; the suite of limittest holds both to
// one another. A time to live is counted from the caller's now, so that it is
// right whatever Redis's own clock says. They free no memory first: when there is none left it is
// for the ends of sessions, and limits are kept by each replica for itself.
const limitLua = `
local now, first, most, memory = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local held = redis.call('MGET', unpack(KEYS))

local function rule(i)
  return tonumber(ARGV[3 + 2 * i]), tonumber(ARGV[4 + 2 * i])
end

-- Of numbers with more digits Lua would lose some.
local function short(number)
  return number and #number <= 15
end

-- A budget: when it is full again.
local function full(i)
  local at = (held[i] or ''):match('^%d+$')
  return short(at) and tonumber(at) or 0
end

-- A backoff: its takes, the last one, the one before.
local function takes(i)
  local count, last, before = (held[i] or ''):match('^(%d+) (%d+) (%d+)$')
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
	// takeLimits: KEYS the keys; ARGV now, the first wait, the longest wait and the
	// memory of a backoff, then burst and every of each rule.
	// It answers what was held before.
	takeLimits = redis.NewScript(limitLua + `
local values, ttls = {}, {}
for i = 1, #KEYS do
  local burst, every = rule(i)
  if every > 0 then
    local after = math.max(full(i), now) + every
    if after - now > burst * every then
      return held
    end
    values[i], ttls[i] = text(after), after - now
  else
    local count, last = takes(i)
    if count >= burst and now < last + math.min(first * 2 ^ (count - burst), most) then
      return held
    end
    local at = math.max(last, now)
    values[i] = text(count + 1) .. ' ' .. text(at) .. ' ' .. text(last)
    ttls[i] = at + memory - now
  end
end
for i = 1, #KEYS do
  redis.call('SET', KEYS[i], values[i], 'PX', text(ttls[i]))
end
return held
`)

	// giveBackLimits: as takeLimits.
	giveBackLimits = redis.NewScript(limitLua + `
for i = 1, #KEYS do
  local _, every = rule(i)
  local value, ttl
  if every > 0 then
    local before = full(i) - every
    value, ttl = text(before), before - now
  else
    local count, _, before = takes(i)
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
