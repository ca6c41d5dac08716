package limit

import (
	"net/netip"
	"reflect"
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
	ActionClient      = "client" // a machine client sends a wrong secret
)

// Actions are all actions that rate limits bound.
var Actions = []string{
	ActionLogin, ActionPassword, ActionRegister, ActionReset, ActionConfirm, ActionMail, ActionMailedToken, ActionRefresh, ActionClient,
}

// Rules has a rule for each rate limit. The login and password rules count only wrong passwords, because
// the charge is refunded if the password was right or could not be checked.
//
// A rule for addresses does not stop a client that has many of them. So each of these rules has a second one
// for the whole network, with five times the numbers: a customer often has a whole /48, or part of a /24.
type Rules struct {
	LoginAddress, LoginNetwork, LoginPair, LoginAccount Rule
	// A login from a known device is not charged to the counter of the account. Otherwise an attacker who
	// guesses an account's password would use up that counter and keep its owner from signing in. All
	// devices of the account share one more bucket. Otherwise an attacker who knew an earlier password, and
	// signed in many times, could guess with each of the device tokens.
	LoginDevice, LoginDevices Rule
	// Each session has its own counter. Otherwise a thief with one token could block the other sessions.
	PasswordSession Rule

	RegisterAddress, RegisterNetwork Rule

	// A client's requests for mail to one email address are charged to the client and that address.
	// Otherwise a stranger who requests mail for an owner would use up the limit, and the owner, on a new
	// device, would get none. ResetEmail and ConfirmEmail are marked as shared, because a client must not
	// learn whether its neighbors asked for the same address.
	ResetAddress, ResetNetwork, ResetEmail, ConfirmEmail Rule
	// A signed-in user's changes of the email address are charged to the user. A change beyond the limit is
	// refused, so that no change happens without its mail. Requests for another link have a limit of their
	// own, because they need no recent sign-in.
	EmailChange, ConfirmAgain Rule
	// These rules bound the mails of one kind, no matter which client caused them. A mail beyond them is dropped. With
	// the default numbers, the latest reset mail is then at most five minutes old, so its link still works.
	MailRecipient, MailAccount Rule

	MailedTokenAddress, MailedTokenNetwork Rule
	RefreshAddress, RefreshNetwork         Rule

	// Only wrong secrets of machine clients count, and a right one is always accepted.
	ClientAddress, ClientNetwork Rule
}

// Defaults returns the rules with their default numbers.
//
// A backoff counter with a Burst of 10 and a Backoff of an hour allows 44 guesses in 24 hours at one login
// name, however many client addresses they come from. The bucket of the devices allows as many. An attacker
// who knows the username and the email can make twice as many guesses.
func Defaults() Rules {
	return Rules{
		LoginAddress: Rule{Name: "login-address", Burst: 100, Every: 10 * time.Second, Counts: "wrong passwords from an address, for all accounts"},
		LoginNetwork: Rule{Name: "login-network", Burst: 500, Every: 2 * time.Second, Shared: true, Counts: "wrong passwords from a network, for all accounts; known devices are not counted"},
		LoginPair:    Rule{Name: "login-address-account", Burst: 8, Every: 30 * time.Minute, Counts: "wrong passwords from an address for one account; known devices are not counted"},
		LoginAccount: Rule{Name: "login-account", Burst: 10, Backoff: time.Hour, Shared: true, Counts: "wrong passwords for one account, from everywhere; known devices are not counted"},
		LoginDevice:  Rule{Name: "login-device", Burst: 10, Backoff: time.Hour, Counts: "wrong passwords from one known device"},
		LoginDevices: Rule{Name: "login-devices", Burst: 20, Every: time.Hour, Shared: true, Counts: "wrong passwords from all known devices of one account together"},

		PasswordSession: Rule{Name: "password-session", Burst: 10, Backoff: time.Hour, Counts: "wrong passwords of a signed-in session"},

		RegisterAddress: Rule{Name: "register-address", Burst: 20, Every: time.Minute, Counts: "registrations from an address"},
		RegisterNetwork: Rule{Name: "register-network", Burst: 100, Every: 12 * time.Second, Shared: true, Counts: "registrations from a network"},

		ResetAddress:  Rule{Name: "reset-address", Burst: 20, Every: time.Minute, Counts: "requests for a reset mail from an address"},
		ResetNetwork:  Rule{Name: "reset-network", Burst: 100, Every: 12 * time.Second, Shared: true, Counts: "requests for a reset mail from a network"},
		ResetEmail:    Rule{Name: "reset-email", Burst: 3, Every: 10 * time.Minute, Shared: true, Counts: "requests for a reset mail from an address to one email address"},
		ConfirmEmail:  Rule{Name: "confirm-email", Burst: 3, Every: 10 * time.Minute, Shared: true, Counts: "mails to one email address because of registrations from an address; beyond the limit the mail is left out"},
		EmailChange:   Rule{Name: "email-change", Burst: 3, Every: 10 * time.Minute, Counts: "changes of a user's email address"},
		ConfirmAgain:  Rule{Name: "confirm-again", Burst: 3, Every: 10 * time.Minute, Counts: "a user's requests to mail the link of a new email address again"},
		MailRecipient: Rule{Name: "mail-recipient", Burst: 12, Every: 5 * time.Minute, Shared: true, Counts: "mails of one kind to one email address; beyond the limit the mail is left out"},
		MailAccount:   Rule{Name: "mail-account", Burst: 12, Every: 5 * time.Minute, Shared: true, Counts: "mails of one kind about one account; beyond the limit the mail is left out"},

		MailedTokenAddress: Rule{Name: "mailed-token-address", Burst: 30, Every: 10 * time.Second, Counts: "mailed tokens that an address sends"},
		MailedTokenNetwork: Rule{Name: "mailed-token-network", Burst: 150, Every: 2 * time.Second, Shared: true, Counts: "mailed tokens that a network sends"},
		RefreshAddress:     Rule{Name: "refresh-address", Burst: 1000, Every: 50 * time.Millisecond, Counts: "refreshes from an address"},
		RefreshNetwork:     Rule{Name: "refresh-network", Burst: 5000, Every: 10 * time.Millisecond, Shared: true, Counts: "refreshes from a network"},
		ClientAddress:      Rule{Name: "client-address", Burst: 20, Every: time.Minute, Counts: "wrong secrets of machine clients from an address"},
		ClientNetwork:      Rule{Name: "client-network", Burst: 100, Every: 12 * time.Second, Shared: true, Counts: "wrong secrets of machine clients from a network"},
	}
}

// All returns all rules, in the order of their declaration.
func (r *Rules) All() (all []*Rule) {
	v := reflect.ValueOf(r).Elem()
	for i := range v.NumField() {
		all = append(all, v.Field(i).Addr().Interface().(*Rule))
	}
	return all
}

// Keys returns the keys to charge for an action other than ActionLogin and ActionPassword. The
// parameter email is the folded (lower-case) email address that ActionReset sends mail to.
func (r *Rules) Keys(action, ip, email string) []Key {
	address, network := Address(ip), Network(ip)
	switch action {
	case ActionRegister:
		return []Key{r.RegisterAddress.Of(address), r.RegisterNetwork.Of(network)}
	case ActionReset:
		return []Key{r.ResetAddress.Of(address), r.ResetNetwork.Of(network), r.ResetEmail.Of(address, email)}
	case ActionMailedToken:
		return []Key{r.MailedTokenAddress.Of(address), r.MailedTokenNetwork.Of(network)}
	case ActionRefresh:
		return []Key{r.RefreshAddress.Of(address), r.RefreshNetwork.Of(network)}
	case ActionClient:
		return []Key{r.ClientAddress.Of(address), r.ClientNetwork.Of(network)}
	}
	return nil
}

// Confirm returns the key to charge when a client at an IP address registers with a folded email address
// that a link will be mailed to.
func (r *Rules) Confirm(ip, email string) Key { return r.ConfirmEmail.Of(Address(ip), email) }

// Mail returns the keys to charge for a mail of this kind to a folded email address. The account is the id
// of the user that the mail is about, or empty.
func (r *Rules) Mail(kind, account, email string) []Key {
	keys := []Key{r.MailRecipient.Of(kind, email)}
	if account != "" {
		keys = append(keys, r.MailAccount.Of(kind, account))
	}
	return keys
}

// Login returns the keys to charge for a login. The account is the folded username or email address
// that the client sent, even if no user has it. The device is the id of a known device, or empty.
func (r *Rules) Login(account, device, ip string) []Key {
	address := r.LoginAddress.Of(Address(ip))
	if device != "" {
		return []Key{address, r.LoginDevice.Of(device, account), r.LoginDevices.Of(account)}
	}
	return []Key{address, r.LoginNetwork.Of(Network(ip)), r.LoginPair.Of(Address(ip), account), r.LoginAccount.Of(account)}
}

// Guesses returns the keys that count wrong passwords for an account: from all clients together, from
// all its devices together, and from this client address.
func (r *Rules) Guesses(account, ip string) []Key {
	return []Key{r.LoginPair.Of(Address(ip), account), r.LoginAccount.Of(account), r.LoginDevices.Of(account)}
}

// Password returns the keys to charge when a signed-in user enters the password again.
func (r *Rules) Password(session string) []Key { return []Key{r.PasswordSession.Of(session)} }

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

// Network returns the text that stands for a client's network in keys: the /24 of an IPv4 address and
// the /48 of an IPv6 address, which providers assign to one customer.
func Network(ip string) string {
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return ""
	}
	bits := 24
	if addr = addr.Unmap().WithZone(""); addr.Is6() {
		bits = 48
	}
	return netip.PrefixFrom(addr, bits).Masked().String()
}
