package limit

import (
	"net/netip"
	"time"
)

// Rate limits bound these actions. ActionLogin and ActionPassword are charged just before the password is
// verified, and ActionMail just before a mail is sent. The other actions are charged when the request
// arrives.
const (
	ActionLogin       = "login"
	ActionPassword    = "password" // a signed-in user enters the password again
	ActionRegister    = "register"
	ActionReset       = "reset"        // a request for the mail that resets a password
	ActionConfirm     = "confirm"      // a request for the mail that confirms an email address
	ActionMail        = "mail"         // any mail
	ActionMailedToken = "mailed-token" // a client sends a token that it got by mail
	ActionRefresh     = "refresh"
)

// These are the rules of the rate limits. The login and password rules count only wrong passwords, because
// the charge is refunded if the password was right or could not be checked.
//
// A backoff counter with a Burst of 10 allows 44 guesses in 24 hours at one login name, however many
// client addresses they come from. An attacker who knows the username and the email can make 88 guesses.
var (
	loginAddress = Rule{Name: "login-address", Burst: 100, Every: 10 * time.Second}
	loginPair    = Rule{Name: "login-address-account", Burst: 8, Every: 30 * time.Minute}
	loginAccount = Rule{Name: "login-account", Burst: 10, Shared: true}
	// A login from a known device is charged only to that device's counter. Otherwise an attacker who
	// guesses an account's password would use up the account's counter and keep its owner from signing in.
	loginDevice = Rule{Name: "login-device", Burst: 10}
	// Each session has its own counter. Otherwise a thief with one token could block the other sessions.
	passwordSession = Rule{Name: "password-session", Burst: 10}

	registerAddress    = Rule{Name: "register-address", Burst: 20, Every: time.Minute}
	resetAddress       = Rule{Name: "reset-address", Burst: 20, Every: time.Minute}
	mailedTokenAddress = Rule{Name: "mailed-token-address", Burst: 30, Every: 10 * time.Second}
	refreshAddress     = Rule{Name: "refresh-address", Burst: 1000, Every: 50 * time.Millisecond}

	// A client's requests for mail to one email address are charged to the client and that address.
	// Otherwise a stranger who requests mail for an owner would use up the limit, and the owner, on a new
	// device, would get none. The limits are marked as shared, because a client must not learn whether
	// its neighbors asked for the same address.
	resetEmail   = Rule{Name: "reset-email", Burst: 3, Every: 10 * time.Minute, Shared: true}
	confirmEmail = Rule{Name: "confirm-email", Burst: 3, Every: 10 * time.Minute, Shared: true}
	// A signed-in user's changes of the email address are charged to the user. A change beyond the limit is
	// refused, so that no change happens without its mail. Requests for another link have a limit of their
	// own, because they need no recent sign-in.
	emailChange  = Rule{Name: "email-change", Burst: 3, Every: 10 * time.Minute}
	confirmAgain = Rule{Name: "confirm-again", Burst: 3, Every: 10 * time.Minute}
	// These limits bound the mails of one kind, whoever caused them. A mail beyond them is dropped. The
	// latest reset mail is then at most five minutes old, so its link still works.
	mailRecipient = Rule{Name: "mail-recipient", Burst: 12, Every: 5 * time.Minute, Shared: true}
	mailAccount   = Rule{Name: "mail-account", Burst: 12, Every: 5 * time.Minute, Shared: true}
)

// Keys returns the keys to charge for an action other than ActionLogin and ActionPassword. The
// parameter email is the folded (lower-case) email address that ActionReset sends mail to.
func Keys(action, ip, email string) []Key {
	address := Address(ip)
	switch action {
	case ActionRegister:
		return []Key{registerAddress.Of(address)}
	case ActionReset:
		return []Key{resetAddress.Of(address), resetEmail.Of(address, email)}
	case ActionMailedToken:
		return []Key{mailedTokenAddress.Of(address)}
	case ActionRefresh:
		return []Key{refreshAddress.Of(address)}
	}
	return nil
}

// Confirm returns the key to charge when a client at an IP address registers with a folded email address
// that a link will be mailed to.
func Confirm(ip, email string) Key { return confirmEmail.Of(Address(ip), email) }

// EmailChange returns the key to charge when the user with this id changes the email address.
func EmailChange(user string) Key { return emailChange.Of(user) }

// ConfirmAgain returns the key to charge when the user with this id asks for another link.
func ConfirmAgain(user string) Key { return confirmAgain.Of(user) }

// Mail returns the keys to charge for a mail of this kind to a folded email address. The account is the id
// of the user that the mail is about, or empty.
func Mail(kind, account, email string) []Key {
	keys := []Key{mailRecipient.Of(kind, email)}
	if account != "" {
		keys = append(keys, mailAccount.Of(kind, account))
	}
	return keys
}

// Login returns the keys to charge for a login. The account is the folded username or email address
// that the client sent, even if no user has it. The device is the id of a known device, or empty.
func Login(account, device, ip string) []Key {
	if device != "" {
		return []Key{loginDevice.Of(device, account)}
	}
	address := Address(ip)
	return []Key{loginAddress.Of(address), loginPair.Of(address, account), loginAccount.Of(account)}
}

// Guesses returns the keys that count wrong passwords for an account: from all clients together, from
// this client address and from this device.
func Guesses(account, device, ip string) []Key {
	keys := []Key{loginPair.Of(Address(ip), account), loginAccount.Of(account)}
	if device != "" {
		keys = append(keys, loginDevice.Of(device, account))
	}
	return keys
}

// Password returns the keys to charge when a signed-in user enters the password again.
func Password(session string) []Key { return []Key{passwordSession.Of(session)} }

// Address returns the text that stands for a client address in keys. For IPv6 it is the /64 network,
// because a client can usually choose any address in its /64.
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
