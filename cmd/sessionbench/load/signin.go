package load

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
)

// Tokens are what a client gets at a login or a refresh.
type Tokens struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
}

// Login signs a user in, from a made-up address with that number.
func (c *Client) Login(user string, number int) (Tokens, error) {
	f := Flood{Users: []string{user}, First: number, Addresses: 1, Clients: 1}
	return c.tokens(f.wire(0), http.StatusCreated)
}

// Refresh exchanges a refresh token, from a made-up address with that number.
func (c *Client) Refresh(t Tokens, number int) (Tokens, error) {
	body := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {t.Refresh}}.Encode()
	return c.tokens(fmt.Appendf(nil, "POST /oauth/token HTTP/1.1\r\nHost: sessionbench\r\nX-Forwarded-For: 10.%d.%d.%d\r\n"+
		"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s", number>>16&0xff, number>>8&0xff, number&0xff, len(body), body), http.StatusOK)
}

func (c *Client) tokens(wire []byte, want int) (t Tokens, err error) {
	answer, err := c.Ask(wire)
	if err != nil {
		return t, err
	}
	if answer.StatusCode() != want {
		return t, fmt.Errorf("%w: status %d, want %d: %s", ErrWrong, answer.StatusCode(), want, answer.Body())
	}
	return t, json.Unmarshal(answer.Body(), &t)
}
