package plot

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/sessiond/sessiond/cmd/sessionbench/report"
)

func TestAll_DrawsOnePlotForEachMeasurement(t *testing.T) {
	r := &report.Report{Machine: "A <CPU> & more", Service: report.Verify}
	add := func(part report.Part, names ...string) {
		table := report.Table{Part: part, Name: "one replica", Callers: 64, Alg: "EdDSA", Tokens: report.Warm, Round: time.Second}
		for i, name := range names {
			f := report.Figures{report.Rate: 1000 - float64(i), report.ToCalm: 1.5 + float64(i)}
			table.Rows = append(table.Rows, report.Row{Name: name, Rounds: []report.Figures{f, f}})
		}
		r.Tables = append(r.Tables, table)
	}
	add(report.Compare, report.Empty, report.Plain, report.Verify)
	add(report.Growth, "1000 sessions", "1000000 sessions", "1000 sessions again")
	add(report.Storm, report.Flooded, report.Crowded, report.Rude)
	plots := All(r)
	if len(plots) != 3 {
		t.Fatalf("%d plots, want 3", len(plots))
	}
	for part, plot := range plots {
		var texts strings.Builder
		for d := xml.NewDecoder(bytes.NewReader(plot)); ; {
			token, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v\n%s", part, err, plot)
			}
			if text, ok := token.(xml.CharData); ok {
				texts.Write(text)
			}
		}
		if !strings.Contains(texts.String(), "A <CPU> & more") || strings.Contains(texts.String(), "NaN") {
			t.Errorf("the plot of %s says:\n%s", part, texts.String())
		}
	}
}
