package httpsuite

import (
	"testing"
)

// The subtests share one service, because starting a service takes longer than most of them.
func TestV1AndOAuthRoutes_BehaveAsDocumented(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		for name, test := range map[string]func(*testing.T, *service){
			"registration does not reveal a taken address":       v1Registration,
			"profile can be read and changed":                    v1Profile,
			"account deletion revokes all sessions":              v1Deletion,
			"export holds everything stored about a user":        v1Export,
			"password change revokes all other sessions":         v1PasswordChange,
			"password reset revokes all sessions":                v1PasswordReset,
			"logout revokes only the current session":            v1LoginAndLogout,
			"pages are sorted from newest to oldest":             v1Pages,
			"revoking one session keeps the others":              v1RevokeSessions,
			"login history gives reason for end of each session": v1History,
			"reuse of old refresh token revokes session":         oauthRefreshRotation,
			"OAuth endpoints return errors of RFC 6749":          oauthErrors,
			"revoking access token keeps its session":            oauthRevocation,
			"access token can be verified with published keys":   accessToken,
			"documents and health checks are public":             documents,
		} {
			t.Run(name, func(t *testing.T) { test(t, s) })
		}
	})
}
