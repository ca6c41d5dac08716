package api

import (
	"net/http"
	"net/url"
)

// crossOriginProtection recognises requests that a browser sends for a page of another site. Forms need
// no preflight, so such a page could sign a victim in as the attacker and replace the device cookie. The
// pages of PublicURL and CORSOrigins are allowed. Clients that are not browsers are not checked.
func (a *API) crossOriginProtection() *http.CrossOriginProtection {
	protection := http.NewCrossOriginProtection()
	for _, text := range append([]string{a.PublicURL}, a.CORSOrigins...) {
		if u, err := url.Parse(text); err == nil && u.Scheme != "" && u.Host != "" {
			_ = protection.AddTrustedOrigin(u.Scheme + "://" + u.Host) // it cannot fail, because the text is a scheme and a host
		}
	}
	return protection
}
