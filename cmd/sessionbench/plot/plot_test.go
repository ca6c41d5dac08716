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
	"github.com/sessiond/sessiond/cmd/sessionbench/size"
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
		texts := textsOf(t, plot)
		if !strings.Contains(texts, "A <CPU> & more") || strings.Contains(texts, "NaN") {
			t.Errorf("the plot of %s says:\n%s", part, texts)
		}
	}
}

// textsOf returns what is written in an SVG.
func textsOf(t *testing.T, plot []byte) string {
	t.Helper()
	var texts strings.Builder
	for d := xml.NewDecoder(bytes.NewReader(plot)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return texts.String()
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, plot)
		}
		if text, ok := token.(xml.CharData); ok {
			texts.Write(text)
			texts.WriteByte('\n')
		}
	}
}

func TestSizes_DrawsEachPartOverTheUsers(t *testing.T) {
	var sizes []size.Size
	for _, users := range []float64{1e6, 1e7} {
		sizes = append(sizes, size.Size{Users: users, Replicas: 2, Shards: 1, RedisGB: users / 1e7, PostgresGB: users / 1e5, WALMB: 0.2})
	}
	texts := textsOf(t, Sizes(sizes))
	for _, want := range []string{"replicas", "Redis shards", "Redis, GB of memory", "Postgres, GB on disk", "Postgres, MB of WAL a second", "10 million"} {
		if !strings.Contains(texts, want+"\n") {
			t.Errorf("the plot does not say %q:\n%s", want, texts)
		}
	}
}

func TestGuesses_DrawsPredictedBesideMeasured(t *testing.T) {
	one := func(n float64) report.Spread { return report.Spread{Median: n, Low: n, High: n} }
	texts := textsOf(t, Guesses([]Guess{{Name: "2 replicas, 1 small shard", Predicted: one(8123), Measured: one(9456)}}, "A CPU"))
	for _, want := range []string{"8.12", "9.46", "predicted", "measured", "2 replicas,", "A CPU."} {
		if !strings.Contains(texts, want+"\n") {
			t.Errorf("the plot does not say %q:\n%s", want, texts)
		}
	}
}
