package limit

import (
	"net/netip"
	"time"
)

// The limited actions. Logins and passwords are charged where the password is verified, the others
// when their request arrives.
const (
	ActionLogin       = "login"
	ActionPassword    = "password" // of a signed-in user
	ActionRegister    = "register"
	ActionReset       = "reset"        // asking for a mail, also by registering
	ActionMailedToken = "mailed-token" // showing a token from a mail
	ActionRefresh     = "refresh"
)

// The rules. Those of passwords count wrong ones: a login that succeeds, or that nothing was decided
// about, is refunded.
//
// A backoff of 10 allows 44 guesses at one name in 24 hours, however many addresses they come from,
// and twice that to an attacker who knows the username and the email.
var (
	loginAddress = Rule{Name: "login-address", Burst: 100, Every: 10 * time.Second}
	loginPair    = Rule{Name: "login-address-account", Burst: 8, Every: 30 * time.Minute}
	loginAccount = Rule{Name: "login-account", Burst: 10, Shared: true}
	// A known device is charged to a counter of its own alone. Otherwise an attacker who guesses at a
	// name would lock its owner out.
	loginDevice = Rule{Name: "login-device", Burst: 10}
	// Likewise a session: otherwise a stolen token would lock out the user's other sessions.
	passwordSession = Rule{Name: "password-session", Burst: 10}

	registerAddress    = Rule{Name: "register-address", Burst: 20, Every: time.Minute}
	resetAddress       = Rule{Name: "reset-address", Burst: 20, Every: time.Minute}
	resetEmail         = Rule{Name: "reset-email", Burst: 3, Every: 10 * time.Minute, Shared: true}
	mailedTokenAddress = Rule{Name: "mailed-token-address", Burst: 30, Every: 10 * time.Second}
	refreshAddress     = Rule{Name: "refresh-address", Burst: 1000, Every: 50 * time.Millisecond}
)

// Keys returns what an action other than a login or a password is charged to, for a client at an
// IP address. email is the folded address that a reset asks for.
func Keys(action, ip, email string) []Key {
	address := Address(ip)
	switch action {
	case ActionRegister:
		return []Key{registerAddress.Of(address)}
	case ActionReset:
		return []Key{resetAddress.Of(address), MailTo(email)}
	case ActionMailedToken:
		return []Key{mailedTokenAddress.Of(address)}
	case ActionRefresh:
		return []Key{refreshAddress.Of(address)}
	}
	return nil
}

// MailTo returns the key of the mails that strangers may cause to a folded email address.
func MailTo(email string) Key { return resetEmail.Of(email) }

// Login returns what a login is charged to. account is the folded name that the client sent, whether
// or not it exists. device is the id of a known device, or empty.
func Login(account, device, ip string) []Key {
	if device != "" {
		return []Key{loginDevice.Of(device, account)}
	}
	address := Address(ip)
	return []Key{loginAddress.Of(address), loginPair.Of(address, account), loginAccount.Of(account)}
}

// Guesses returns the keys that hold the guesses at an account: those from everywhere, and those from
// this address and this device.
func Guesses(account, device, ip string) []Key {
	keys := []Key{loginPair.Of(Address(ip), account), loginAccount.Of(account)}
	if device != "" {
		keys = append(keys, loginDevice.Of(device, account))
	}
	return keys
}

// Password returns what the password of a signed-in user is charged to.
func Password(session string) []Key { return []Key{passwordSession.Of(session)} }

// Address returns what counts as one client address. A client that has an IPv6 address has its
// whole /64.
func Address(ip string) string {
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return ""
	}
	if addr = addr.Unmap().WithZone(""); addr.Is6() {
		return netip.PrefixFrom(addr, 64).Masked().String()
	}
	return addr.String()
}
