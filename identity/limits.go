package identity

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"github.com/sessiond/sessiond/identity/limit"
)

// What is limited. Those that guess at a password are limited where it is
// verified; the others by [Service.Admit].
const (
	actionLogin    = "login"
	actionPassword = "password" // of who is signed in

	ActionRegister    = "register"
	ActionReset       = "reset"        // asking for a mail, also by registering
	ActionMailedToken = "mailed-token" // showing what a mail held
	ActionRefresh     = "refresh"
)

// The rules. Those of guesses count what was wrong: a login that succeeds, or of
// which nothing was decided, gives back what it took.
//
// A backoff of 10 allows 44 guesses at one name in 24 hours, whatever number of
// addresses they come from; twice that for who knows the username and the email.
var (
	loginAddress = limit.Rule{Name: "login-address", Burst: 100, Every: 10 * time.Second}
	loginPair    = limit.Rule{Name: "login-address-account", Burst: 8, Every: 30 * time.Minute}
	loginAccount = limit.Rule{Name: "login-account", Burst: 10, Shared: true}
	// A known device takes of its own alone, or whoever guesses at a name would
	// lock its owner out.
	loginDevice = limit.Rule{Name: "login-device", Burst: 10}
	// And so does a session, or a stolen token would lock out the others.
	passwordSession = limit.Rule{Name: "password-session", Burst: 10}

	registerAddress    = limit.Rule{Name: "register-address", Burst: 20, Every: time.Minute}
	resetAddress       = limit.Rule{Name: "reset-address", Burst: 20, Every: time.Minute}
	resetEmail         = limit.Rule{Name: "reset-email", Burst: 3, Every: 10 * time.Minute, Shared: true}
	mailedTokenAddress = limit.Rule{Name: "mailed-token-address", Burst: 30, Every: 10 * time.Second}
	refreshAddress     = limit.Rule{Name: "refresh-address", Burst: 1000, Every: 50 * time.Millisecond}
)

// Admit takes of the limits of an action of whoever comes from an address; of a
// reset, also of those of the email it asks for. giveBack is for an action of which
// nothing came. ErrLimited, as a [RetryError].
func (s *Service) Admit(ctx context.Context, action, email string, from Origin) (giveBack func(context.Context), err error) {
	address := limitAddress(from.IP)
	var keys []limit.Key
	switch action {
	case ActionRegister:
		keys = []limit.Key{registerAddress.Of(address)}
	case ActionReset:
		keys = []limit.Key{resetAddress.Of(address), resetEmail.Of(Fold(email))}
	case ActionMailedToken:
		keys = []limit.Key{mailedTokenAddress.Of(address)}
	case ActionRefresh:
		keys = []limit.Key{refreshAddress.Of(address)}
	}
	g := s.guess(action, from, keys...)
	return g.giveBack, g.take(ctx)
}

// guess is one try that the limits count. It is taken, and settled when its
// outcome is known.
type guess struct {
	s      *Service
	action string
	quota  *limit.Decision
	keys   []limit.Key
	taken  limit.Decision
}

func (s *Service) guess(action string, from Origin, keys ...limit.Key) *guess {
	return &guess{s: s, action: action, quota: from.Quota, keys: keys}
}

// guessLogin is a guess at the password of login.
func (s *Service) guessLogin(login, device string, from Origin) *guess {
	return s.guess(actionLogin, from, loginKeys(login, device, from.IP)...)
}

// loginKeys are what a login of a known device, or of a stranger at an address,
// takes of. A name is taken as it is typed: whether it exists makes no difference.
func loginKeys(login, device, ip string) []limit.Key {
	account := Fold(login)
	if device != "" {
		return []limit.Key{loginDevice.Of(device, account)}
	}
	address := limitAddress(ip)
	return []limit.Key{loginAddress.Of(address), loginPair.Of(address, account), loginAccount.Of(account)}
}

// take asks the limits. ErrLimited, as a [RetryError].
func (g *guess) take(ctx context.Context) error {
	if g.s.Limits == nil {
		return nil
	}
	d := g.s.Limits.Take(ctx, g.s.now(), g.keys)
	g.s.observer().Limited(g.action, d.Allowed, !d.Own)
	if g.quota != nil {
		*g.quota = d
	}
	if !d.Allowed {
		return &RetryError{After: d.RetryAfter, Err: ErrLimited}
	}
	g.taken = d
	return nil
}

// settle gives back what was taken unless the guess was wrong.
func (g *guess) settle(ctx context.Context, outcome error) {
	wrong := errors.Is(outcome, ErrWrongPassword) || errors.Is(outcome, ErrNotFound) || errors.Is(outcome, errUnrecorded)
	if !wrong {
		g.giveBack(ctx)
	}
}

// giveBack undoes the take, if there was one.
func (g *guess) giveBack(ctx context.Context) {
	if !g.taken.Allowed {
		return
	}
	if err := g.s.Limits.GiveBack(ctx, g.s.now(), g.taken, g.keys); err != nil {
		g.s.Log.DebugContext(ctx, "what was taken of the limits is not given back", slog.Any("error", err))
	}
}

// forgive forgets the guesses at a user's password from everywhere, and those
// made from here: they have shown that they read the user's mail.
func (s *Service) forgive(ctx context.Context, u User, from Origin) {
	if s.Limits == nil {
		return
	}
	address := limitAddress(from.IP)
	var keys []limit.Key
	for _, login := range []string{u.Username, u.Email} {
		keys = append(keys, loginPair.Of(address, Fold(login)), loginAccount.Of(Fold(login)))
		if device := s.knownDevice(from.DeviceToken, login); device != "" {
			keys = append(keys, loginDevice.Of(device, Fold(login)))
		}
	}
	if err := s.Limits.Clear(ctx, keys); err != nil {
		s.Log.DebugContext(ctx, "guesses before the reset still count", slog.Any("error", err))
	}
}

// limitAddress is what counts as one address: whoever has an IPv6 address has
// the whole /64.
func limitAddress(ip string) string {
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return ""
	}
	if addr = addr.Unmap().WithZone(""); addr.Is6() {
		return netip.PrefixFrom(addr, 64).Masked().String()
	}
	return addr.String()
}
