-- The action lua.verify asks sessiond who sends a request, through the listener
-- "verify" in haproxy.cfg. It sets these variables:
--
--   txn.verify.status      sessiond's status; not set if sessiond did not answer
--   txn.verify.challenge   the WWW-Authenticate of a 401
--   txn.verify.subject, .username, .session, .token_id, .roles   the identity of a 200
--
-- No state is kept between requests.

local listener = "abns@sessiond-verify"

-- passed_on lists the only request headers that are sent to sessiond.
local passed_on = { "authorization", "host", "x-forwarded-for", "x-request-id" }

local function verify(txn)
  local headers, all = {}, txn.http:req_get_headers()
  for _, name in ipairs(passed_on) do
    if all[name] then
      headers[name] = { all[name][0] }
    end
  end

  -- The path of the check does not depend on the client's path.
  local answer = core.httpclient():get{
    url = "http://sessiond/v1/verify", dst = listener, headers = headers, timeout = 5000,
  }
  if not answer or not answer.status then
    return
  end

  local function first(name)
    local values = answer.headers and answer.headers[name]
    return values and values[0] or ""
  end
  txn:set_var("txn.verify.challenge", first("www-authenticate"))
  txn:set_var("txn.verify.subject", first("x-auth-subject"))
  txn:set_var("txn.verify.username", first("x-auth-username"))
  txn:set_var("txn.verify.session", first("x-auth-session"))
  txn:set_var("txn.verify.token_id", first("x-auth-token-id"))
  txn:set_var("txn.verify.roles", first("x-auth-roles"))
  txn:set_var("txn.verify.status", answer.status) -- set it last, because haproxy.cfg accepts the request if it is 200
end

core.register_action("verify", { "http-req" }, verify, 0)
