package httpsuite

import (
	"testing"
)

// TestV1 runs all tests of /v1 and /oauth that need no settings against one service, because
// starting a service takes longer than most of them.
func TestV1(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		for name, test := range map[string]func(*testing.T, *service){
			"registration": v1Registration, "profile": v1Profile, "deletion": v1Deletion, "password change": v1PasswordChange,
			"password reset": v1PasswordReset, "login and logout": v1LoginAndLogout, "pages": v1Pages, "revocation of sessions": v1RevokeSessions,
			"history": v1History, "refresh rotation": oauthRefreshRotation, "OAuth errors": oauthErrors, "token revocation": oauthRevocation,
			"access token": accessToken, "documents": documents,
		} {
			t.Run(name, func(t *testing.T) { test(t, s) })
		}
	})
}
