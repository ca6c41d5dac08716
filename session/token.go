package session

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// tokenType is the header "typ" of an access token (RFC 9068 section 2.1).
const tokenType = "at+jwt"

// maxTokenBytes is the largest token that is parsed. A token of sessiond has about 1 KB at most.
const maxTokenBytes = 4096

// Claims are the content of an access token (RFC 9068 section 2.2). Times are whole seconds.
type Claims struct {
	Issuer    string
	Audience  []string // at least one
	Subject   string   // the claim sub
	SessionID string   // the claim sid
	TokenID   string   // the claim jti
	ClientID  string
	Username  string
	AMR       []string // how the user authenticated (RFC 8176)
	IssuedAt  time.Time
	ExpiresAt time.Time
	AuthTime  time.Time // when the user last proved their identity
	// Attributes are the subject's. Only a check sets them. In [KeySet.Sign], the roles become the claim
	// roles (RFC 9068 section 2.2.3.1), which tells a client what its user may do.
	Attributes
}

func (c *Claims) ref() Ref {
	return Ref{Subject: c.Subject, SessionID: c.SessionID, TokenID: c.TokenID}
}

// wireClaims is the payload of a token. Unknown members are ignored. Otherwise an old replica would
// refuse the tokens of a newer replica during a rolling update.
type wireClaims struct {
	Issuer    string   `json:"iss"`
	Audience  audience `json:"aud"`
	Subject   string   `json:"sub"`
	SessionID string   `json:"sid"`
	TokenID   string   `json:"jti"`
	ClientID  string   `json:"client_id"`
	IssuedAt  int64    `json:"iat"`
	ExpiresAt int64    `json:"exp"`
	NotBefore int64    `json:"nbf,omitzero"`
	AuthTime  int64    `json:"auth_time"`
	AMR       []string `json:"amr"`
	Username  string   `json:"username"`
	Roles     []string `json:"roles,omitempty"`
}

// audience is the claim aud: a text, or an array of texts (RFC 7519 section 4.1.3).
type audience []string

func (a audience) MarshalJSONTo(enc *jsontext.Encoder) error {
	if len(a) == 1 {
		return enc.WriteToken(jsontext.String(a[0]))
	}
	return json.MarshalEncode(enc, []string(a))
}

func (a *audience) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	if dec.PeekKind() == '"' {
		*a = make(audience, 1)
		return json.UnmarshalDecode(dec, &(*a)[0])
	}
	return json.UnmarshalDecode(dec, (*[]string)(a))
}

// wireHeader is the JOSE header of a token. A header with another member (jku, jwk, x5u, x5c, crit,
// b64, zip …) is refused, because a token must not influence which key verifies it.
type wireHeader struct {
	Alg string `json:"alg"`
	Kid string `json:"kid"`
	Typ string `json:"typ"`
}

// Sign returns an access token with these claims, signed with the set's active key.
func (s *KeySet) Sign(c *Claims) (string, error) {
	if s.signer == nil {
		return "", errors.New("session: the key set has no active private key to sign with")
	}
	header, headerErr := json.Marshal(wireHeader{Alg: s.signer.Alg, Kid: s.signer.ID, Typ: tokenType})
	payload, payloadErr := json.Marshal(wireClaims{
		Issuer: c.Issuer, Audience: c.Audience, Subject: c.Subject, SessionID: c.SessionID, TokenID: c.TokenID,
		ClientID: c.ClientID, IssuedAt: c.IssuedAt.Unix(), ExpiresAt: c.ExpiresAt.Unix(), AuthTime: c.AuthTime.Unix(),
		AMR: c.AMR, Username: c.Username, Roles: c.Roles.List(),
	})
	if err := cmp.Or(headerErr, payloadErr); err != nil {
		return "", fmt.Errorf("session: encode token: %w", err)
	}
	b64 := base64.RawURLEncoding
	signing := b64.EncodeToString(header) + "." + b64.EncodeToString(payload)
	signature, err := s.signer.method.Sign(signing, s.signer.private)
	if err != nil {
		return "", fmt.Errorf("session: sign token: %w", err)
	}
	return signing + "." + b64.EncodeToString(signature), nil
}

// accept verifies an access token (RFC 7515, RFC 8725). It does not check whether the token was
// revoked.
func (s *KeySet) accept(raw, issuer, audience string, now time.Time) (*verified, error) {
	payload, key, err := s.verifySignature(raw, tokenType, now)
	if err != nil {
		return nil, err
	}
	var w wireClaims
	if err := json.Unmarshal(payload, &w); err != nil {
		return nil, invalid("the claims are not in the format of sessiond's tokens")
	}
	claims, err := w.accept(issuer, audience, now)
	if err != nil {
		return nil, err
	}
	if key.Status == KeyRetired && claims.IssuedAt.After(key.RetiredAt.Add(retireGrace)) {
		return nil, invalid("the token was issued after its key was retired (iat)")
	}
	const leeway = int64(Leeway / time.Second)
	t := &verified{claims: claims, keys: s, from: w.NotBefore - leeway, until: w.ExpiresAt + leeway}
	if end, ends := key.end(); ends {
		t.until = min(t.until, end.Unix())
	}
	t.seen.Store(w.IssuedAt)
	return t, nil
}

// errUnknownKey means that the key set lacks the key of a token. A newer key set may have that key.
var errUnknownKey = invalid("the key set has no usable key with this kid")

// verifySignature returns the payload of a token, and the key that verified the signature. It refuses
// a token whose header typ is another one.
func (s *KeySet) verifySignature(raw, typ string, now time.Time) ([]byte, *Key, error) {
	if len(raw) > maxTokenBytes {
		return nil, nil, invalid("the token is larger than 4096 bytes")
	}
	parts := strings.SplitN(raw, ".", 4)
	if len(parts) != 3 {
		return nil, nil, invalid("the token does not have three parts")
	}
	headerJSON, err := decodeSegment(parts[0])
	if err != nil {
		return nil, nil, invalid("the header is not base64url")
	}
	var header wireHeader
	if err := json.Unmarshal(headerJSON, &header, json.RejectUnknownMembers(true)); err != nil {
		return nil, nil, invalid("the header is not JSON with only alg, kid and typ")
	}
	if header.Typ != typ {
		return nil, nil, invalid("the header typ names the wrong kind of token")
	}
	key, ok := s.find(header.Kid, now)
	if !ok {
		return nil, nil, errUnknownKey
	}
	// The key determines the algorithm. The token must not choose another one.
	if header.Alg != key.Alg {
		return nil, nil, invalid("the header alg is not the algorithm of the key")
	}
	signature, err := decodeSegment(parts[2])
	if err != nil {
		return nil, nil, invalid("the signature is not base64url")
	}
	signing := raw[:len(parts[0])+1+len(parts[1])]
	if err := key.method.Verify(signing, signature, key.public); err != nil {
		return nil, nil, invalid("the signature is wrong")
	}
	payload, err := decodeSegment(parts[1])
	if err != nil {
		return nil, nil, invalid("the payload is not base64url")
	}
	return payload, key, nil
}

// accept checks the claims of a token whose signature was verified.
func (w *wireClaims) accept(issuer, own string, now time.Time) (Claims, error) {
	switch {
	case w.Issuer != issuer:
		return Claims{}, invalid("the token has the wrong issuer (iss)")
	case !slices.Contains(w.Audience, own):
		return Claims{}, invalid("the token has the wrong audience (aud)")
	case w.Subject == "" || w.SessionID == "" || w.TokenID == "":
		return Claims{}, invalid("the claim sub, sid or jti is missing")
	case w.IssuedAt <= 0 || w.ExpiresAt <= w.IssuedAt:
		return Claims{}, invalid("the claim iat or exp is missing, or exp is not after iat")
	case w.ExpiresAt-w.IssuedAt > int64(MaxAccessTTL/time.Second):
		return Claims{}, invalid("the token lives longer than any that sessiond issues (exp)")
	case now.Unix() >= w.ExpiresAt+int64(Leeway.Seconds()):
		return Claims{}, invalid("the token has expired")
	case now.Unix() < w.NotBefore-int64(Leeway.Seconds()):
		return Claims{}, invalid("the token is not valid yet (nbf)")
	}
	// To save memory, the claims in the signature cache share the most common values.
	if slices.Equal(w.AMR, usualAMR) {
		w.AMR = usualAMR
	}
	if w.ClientID == usualClientID {
		w.ClientID = usualClientID
	}
	w.Audience[slices.Index(w.Audience, own)] = own
	return Claims{
		Issuer: issuer, Audience: w.Audience, Subject: w.Subject, SessionID: w.SessionID, TokenID: w.TokenID,
		ClientID: w.ClientID, Username: w.Username, AMR: w.AMR,
		IssuedAt: time.Unix(w.IssuedAt, 0).UTC(), ExpiresAt: time.Unix(w.ExpiresAt, 0).UTC(), AuthTime: time.Unix(w.AuthTime, 0).UTC(),
	}, nil
}

const usualClientID = "sessiond"

var usualAMR = []string{"pwd"}

// decodeSegment decodes base64url as RFC 7515 section 2 defines it. It refuses padding and unused
// bits that are set. It also refuses line breaks, which encoding/base64 would skip.
func decodeSegment(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, errors.New("base64url must not contain line breaks")
	}
	return base64.RawURLEncoding.Strict().DecodeString(s)
}
