package httpsuite

import (
	"testing"
)

// inTurn runs subtests that share one service, because starting a service takes longer than most of
// them.
func inTurn(t *testing.T, tests map[string]func(*testing.T, *service)) {
	t.Helper()
	eachMode(t, func(t *testing.T, s *service) {
		for name, test := range tests {
			t.Run(name, func(t *testing.T) { test(t, s) })
		}
	})
}

func TestV1Accounts_BehaveAsDocumented_ASVS_V2_3_1_V6_2_2_V6_4_3_V7_4_2_V7_4_3_V7_6_2(t *testing.T) {
	inTurn(t, map[string]func(*testing.T, *service){
		"registration does not reveal a taken address": v1Registration,
		"profile can be read and changed":              v1Profile,
		"account deletion revokes all sessions":        v1Deletion,
		"export holds everything stored about a user":  v1Export,
		"password change revokes all other sessions":   v1PasswordChange,
		"password reset revokes all sessions":          v1PasswordReset,
	})
}

func TestV1Sessions_BehaveAsDocumented_ASVS_V1_4_2_V10_4_9_V15_3_7(t *testing.T) {
	inTurn(t, map[string]func(*testing.T, *service){
		"logout revokes only the current session":            v1LoginAndLogout,
		"pages are sorted from newest to oldest":             v1Pages,
		"revoking one session keeps the others":              v1RevokeSessions,
		"login history gives reason for end of each session": v1History,
	})
}

func TestOAuthRoutes_BehaveAsDocumented_ASVS_V9_2_2_V9_2_4_V10_3_4_V10_4_5_V10_4_9(t *testing.T) {
	inTurn(t, map[string]func(*testing.T, *service){
		"reuse of old refresh token revokes session":       oauthRefreshRotation,
		"OAuth endpoints return errors of RFC 6749":        oauthErrors,
		"revoking access token keeps its session":          oauthRevocation,
		"access token can be verified with published keys": accessToken,
	})
}

func TestDocumentsAndHealthChecks_ArePublic_ASVS_V13_4_1_V13_4_2_V13_4_3(t *testing.T) {
	inTurn(t, map[string]func(*testing.T, *service){"and other paths do not exist": documents})
}
