package mail

import (
	"regexp"
	"strings"
	"testing"
	"time"
)

var allKinds = []Kind{
	KindPasswordReset, KindConfirmEmail, KindAddressTaken, KindPasswordChanged, KindEmailChange, KindAccountDeleted, KindTokenTheft, KindInvitation,
}

func TestCompose_WritesEveryKindOfMail_ASVS_V1_1_2_V1_2_1_V14_2_3(t *testing.T) {
	if len(letters) != len(allKinds) {
		t.Errorf("%d letters, want one for each of %d kinds", len(letters), len(allKinds))
	}
	subjects := map[string]Kind{}
	for _, kind := range allKinds {
		data := letterData{Product: product, Site: "auth.example.com"}
		if kind == KindPasswordReset || kind == KindConfirmEmail || kind == KindEmailChange || kind == KindInvitation {
			data.Link, data.Lifetime = "https://auth.example.com/x?a=1&b=2#token=t-_", "10 minutes"
		}
		m, err := compose(kind, "a@example.com", data)
		if err != nil {
			t.Fatal(err)
		}
		if twin, taken := subjects[m.Subject]; taken {
			t.Errorf("%s and %s have the same subject", kind, twin)
		}
		subjects[m.Subject] = kind
		if m.To != "a@example.com" || m.Subject == "" || strings.ContainsAny(m.Subject, "\r\n<") {
			t.Errorf("%s: %q, %q", kind, m.To, m.Subject)
		}
		for _, want := range []string{"Hello,\n", data.Link, data.Site, product, data.Lifetime} {
			if !strings.Contains(m.Text, want) {
				t.Errorf("%s: the text lacks %q:\n%s", kind, want, m.Text)
			}
		}
		for _, want := range []string{"Hello,", data.Site, product, m.Subject} {
			if !strings.Contains(m.HTML, want) {
				t.Errorf("%s: the HTML lacks %q:\n%s", kind, want, m.HTML)
			}
		}
		if data.Link != "" && strings.Count(m.HTML, `href="https://auth.example.com/x?a=1&amp;b=2#token=t-_"`) != 2 {
			t.Errorf("%s: the HTML lacks the link:\n%s", kind, m.HTML)
		}
		// A mail must not load anything, because a server would learn from that when the mail is opened.
		if regexp.MustCompile(`(?i)<(img|link|script|iframe)|src=|url\(|@import`).MatchString(m.HTML) {
			t.Errorf("%s: the HTML loads images, styles or scripts:\n%s", kind, m.HTML)
		}
		for _, line := range strings.Split(m.Text, "\n") {
			if len([]rune(line)) > 100 {
				t.Errorf("%s: the line %q has more than 100 characters", kind, line)
			}
		}
		if strings.Contains(m.Text+m.HTML, "no value") || !strings.Contains(m.Text, "\n\n") {
			t.Errorf("%s:\n%s", kind, m.Text)
		}
	}
	if _, err := compose("greetings", "a@example.com", letterData{}); err == nil {
		t.Error("composed a mail without a template")
	}
}

func TestInWords_WritesDurationAsPeopleDo(t *testing.T) {
	for d, want := range map[time.Duration]string{
		time.Second: "1 second", 30 * time.Second: "30 seconds", time.Minute: "1 minute", 10 * time.Minute: "10 minutes",
		time.Hour: "60 minutes", 24 * time.Hour: "24 hours",
	} {
		if got := inWords(d); got != want {
			t.Errorf("%v is written %q, want %q", d, got, want)
		}
	}
}

func TestTokenLink_AddsTokenAndKeepsTheQueryOfThePage_ASVS_V1_2_2(t *testing.T) {
	for _, c := range []struct {
		kind       Kind
		page, want string
	}{
		{KindPasswordReset, "https://a.example/reset", "https://a.example/reset?resetPasswordToken=t-_"},
		{KindPasswordReset, "https://a.example/app?lang=de#top", "https://a.example/app?lang=de&resetPasswordToken=t-_#top"},
		{KindConfirmEmail, "https://a.example/verify", "https://a.example/verify#token=t-_"},
		{KindEmailChange, "https://a.example/app?lang=de#top", "https://a.example/app?lang=de#token=t-_"},
	} {
		if got, err := tokenLink(c.kind, c.page, "t-_"); err != nil || got != c.want {
			t.Errorf("%s: got %s, %v, want %s", c.page, got, err, c.want)
		}
	}
}

func TestRetryDelay_DoublesUpToTenMinutes(t *testing.T) {
	for attempts, want := range map[int]time.Duration{
		0: 2 * time.Second, 1: 2 * time.Second, 2: 4 * time.Second, 3: 8 * time.Second, 9: 512 * time.Second,
		10: 10 * time.Minute, 11: 10 * time.Minute, 1 << 30: 10 * time.Minute,
	} {
		if got := retryDelay(attempts); got != want {
			t.Errorf("after %d attempts: %v, want %v", attempts, got, want)
		}
	}
}
