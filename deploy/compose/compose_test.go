package compose

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

// load returns what Docker Compose reads from compose.yaml.
func load(t *testing.T) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{"../compose.yaml"}, cli.WithoutEnvironmentResolution)
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return project
}

// replicas are the services that serve.
var replicas = []string{"sessiond-1", "sessiond-2", "sessiond-3"}

func TestCompose_PublishesOnlyLoopbackAndPinsImages(t *testing.T) {
	pinned := regexp.MustCompile(`^docker\.io/[^:]+:v?\d+\.\d+`)
	ports := 0
	for name, s := range load(t).Services {
		for _, p := range s.Ports {
			ports++
			if p.HostIP != "127.0.0.1" {
				t.Errorf("%s publishes port %s to %q", name, p.Published, p.HostIP)
			}
		}
		if !pinned.MatchString(s.Image) && s.Image != "sessiond:compose" {
			t.Errorf("%s has the image %s, want one with a version", name, s.Image)
		}
		if s.Privileged || !slices.Equal(s.SecurityOpt, []string{"no-new-privileges:true"}) {
			t.Errorf("%s may get more rights", name)
		}
		for _, v := range s.Volumes {
			if _, err := os.Stat(v.Source); v.Type == types.VolumeTypeBind && (err != nil || !v.ReadOnly) {
				t.Errorf("%s mounts %s, which must exist and be read-only: %v", name, v.Source, err)
			}
		}
	}
	if ports != 4 {
		t.Errorf("%d ports are published, want those of HAProxy, Mailpit, Prometheus and Grafana", ports)
	}
}

func TestCompose_SessiondHasNoRightsAndOnlyKnownSettings(t *testing.T) {
	guide, err := os.ReadFile("../docs/settings.md")
	if err != nil {
		t.Fatal(err)
	}
	project := load(t)
	for _, name := range append([]string{"keys", "migrate"}, replicas...) {
		s := project.Services[name]
		if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || s.CapAdd != nil || s.MemLimit == 0 {
			t.Errorf("%s has a root that it can write, capabilities or no limit of memory", name)
		}
		for key := range s.Environment {
			setting, ours := strings.CutPrefix(key, "SESSIOND_")
			if ours && !strings.Contains(string(guide), "| `"+strings.TrimSuffix(setting, "_FILE")+"`") && !strings.Contains(string(guide), "| `"+setting+"`") {
				t.Errorf("%s sets %s, which sessiond does not have", name, key)
			}
		}
	}
}

// A password in the repository would be the same for everybody.
func TestCompose_HasNoPassword(t *testing.T) {
	files, err := filepath.Glob("*")
	if err != nil {
		t.Fatal(err)
	}
	secret := regexp.MustCompile(`(?im)^[^#\n]*\b(password|requirepass|masterauth|auth-pass sessiond)[:= ]+["']?[a-z0-9]{3,}`)
	for _, name := range append(files, "../compose.yaml") {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if found := secret.Find(text); found != nil && !strings.HasSuffix(name, "_test.go") {
			t.Errorf("%s has a password: %s", name, found)
		}
	}
}
