package api

import (
	"strings"
	"unicode"

	"github.com/mileusna/useragent"
)

// maxUserAgent is the maximum number of bytes of a User-Agent header that a session stores.
const maxUserAgent = 512

// cleanUserAgent makes a User-Agent safe to store and to show. The result is valid UTF-8, contains
// no control or text-direction characters, and has at most maxUserAgent bytes.
func cleanUserAgent(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			return -1
		}
		return r
	}, s)
	if len(s) > maxUserAgent {
		s = strings.ToValidUTF8(s[:maxUserAgent], "")
	}
	return strings.TrimSpace(s)
}

// programs and systems are the only words of a device name. A User-Agent can be any text, and users
// trust what the list of their logins says.
var (
	programs = words(useragent.Chrome, useragent.HeadlessChrome, useragent.Firefox, useragent.Safari, useragent.MobileSafari, useragent.Edge,
		useragent.Opera, useragent.OperaMini, useragent.OperaTouch, useragent.Vivaldi, useragent.SamsungBrowser, useragent.InternetExplorer,
		useragent.FacebookApp, useragent.InstagramApp, useragent.TiktokApp, "Android browser", "Brave", "DuckDuckGo", "Huawei Browser",
		"Miui Browser", "UCBrowser", "YaBrowser",
		"curl", "Wget", "HTTPie", "PostmanRuntime", "python-requests", "Go-http-client", "okhttp", "axios", "node", "Dart", "Java", "Dalvik")
	systems = words(useragent.Windows, useragent.WindowsPhone, useragent.Android, useragent.MacOS, useragent.IOS, useragent.Linux,
		useragent.FreeBSD, useragent.ChromeOS, useragent.Harmony)
)

func words(all ...string) map[string]bool {
	set := make(map[string]bool)
	for _, word := range all {
		set[word] = true
	}
	return set
}

// deviceName turns a User-Agent into a name that people understand, such as "Chrome on macOS".
func deviceName(userAgent string) string {
	ua := useragent.Parse(userAgent)
	switch {
	case !programs[ua.Name]:
		return "Unknown client"
	case !systems[ua.OS]:
		return ua.Name
	default:
		return ua.Name + " on " + ua.OS
	}
}
