package main

import (
	"strings"
	"testing"
)

func TestReport(t *testing.T) {
	tests := []struct {
		name   string
		events string
		want   []string // in the report, in this order
	}{
		{
			"a subtest counts beside its test, and a skip gives its reason",
			`{"Action":"output","Package":"p","Test":"TestA/x","Output":"=== RUN   TestA/x\n"}
{"Action":"output","Package":"p","Test":"TestA/x","Output":"    a_test.go:7: set VARIABLE to run this\n"}
{"Action":"output","Package":"p","Test":"TestA/x","Output":"--- SKIP: TestA/x (0.00s)\n"}
{"Action":"skip","Package":"p","Test":"TestA/x"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p","Elapsed":1.25}
`,
			[]string{"ok   p: 1 passed, 0 failed, 1 skipped in 1.2s\n", "p TestA/x: a_test.go:7: set VARIABLE to run this\n", "\n1 passed, 0 failed, 1 skipped\n"},
		},
		{
			"what a failing test printed is shown, what a passing one printed is not",
			`{"Action":"output","Package":"p","Test":"TestA","Output":"quiet\n"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestB","Output":"loud\n"}
{"Action":"fail","Package":"p","Test":"TestB"}
{"Action":"fail","Package":"p"}
`,
			[]string{"FAIL p TestB\n    loud\n", "FAIL p: 1 passed, 1 failed, 0 skipped", "\n1 passed, 1 failed, 0 skipped\n"},
		},
		{
			"a package that ends early is a failure, and what its tests had printed is shown",
			`{"Action":"output","Package":"p","Test":"TestA","Output":"panic: test timed out\n"}
{"Action":"output","Package":"p","Output":"exit status 2\n"}
{"Action":"fail","Package":"p"}
`,
			[]string{"panic: test timed out\n", "exit status 2\n", "FAIL p: 0 passed, 1 failed, 0 skipped", "\n0 passed, 1 failed, 0 skipped\n"},
		},
		{
			"a package that does not build says why",
			`{"ImportPath":"p","Action":"build-output","Output":"p.go:3:1: syntax error\n"}
{"ImportPath":"p","Action":"build-fail"}
{"Action":"fail","Package":"p","FailedBuild":"p"}
`,
			[]string{"p.go:3:1: syntax error\n", "\n0 passed, 1 failed, 0 skipped\n"},
		},
		{
			"a package without tests is no failure",
			`{"Action":"output","Package":"p","Output":"?   \tp\t[no test files]\n"}
{"Action":"skip","Package":"p"}
`,
			[]string{"-    p: no tests\n", "\n0 passed, 0 failed, 0 skipped\n"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var out strings.Builder
			r := newReport(&out)
			if err := r.read(strings.NewReader(test.events)); err != nil {
				t.Fatal(err)
			}
			r.close()
			rest := out.String()
			for _, want := range test.want {
				_, after, found := strings.Cut(rest, want)
				if !found {
					t.Fatalf("no %q (in this order) in the report:\n%s", want, out.String())
				}
				rest = after
			}
			if strings.Contains(out.String(), "quiet") {
				t.Errorf("output of a passing test in the report:\n%s", out.String())
			}
		})
	}
}
