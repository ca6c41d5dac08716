package observability_test

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"html"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sessiond/sessiond/redisstore/redisstoretest"
)

var picture = flag.Bool("picture", false, "draw the panels of the dashboard from a run of three minutes")

// TestPicture_OfTheDashboard draws the panels from recorded data of a run with three faults, which the
// README describes.
func TestPicture_OfTheDashboard(t *testing.T) {
	if !*picture {
		t.Skip("takes three minutes; runs with -picture")
	}
	redisURL := redisstoretest.StartServer(t)
	s := startService(t, redisURL)
	p := startPrometheus(t, s.metricsAddr)
	client := redis.NewClient(&redis.Options{Addr: strings.TrimPrefix(redisURL, "redis://")})
	t.Cleanup(func() { _ = client.Close() })

	began := time.Now()
	until := func(d time.Duration) { time.Sleep(time.Until(began.Add(d))) }
	for range 3 {
		s.begin(t, func(ctx context.Context) { s.use(ctx, time.Second) })
	}
	until(50 * time.Second)
	stop := s.begin(t, func(ctx context.Context) { s.attack(ctx, 48) })
	until(70 * time.Second)
	stop()
	until(90 * time.Second)
	if err := client.Do(t.Context(), "CLIENT", "PAUSE", 15_000, "ALL").Err(); err != nil {
		t.Fatal(err)
	}
	until(135 * time.Second)
	if err := client.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	until(180 * time.Second)

	drawing := newDrawing()
	for _, panel := range readDashboard(t).Panels {
		if panel.Type == "row" {
			drawing.heading(panel.Title)
			continue
		}
		var lines []namedLine
		for _, target := range panel.Targets {
			// Rates over five minutes would smooth a run of three.
			expr := strings.ReplaceAll(target.Expr, "[5m]", "[20s]")
			for _, l := range p.over(t, expr, began, time.Now(), 2*time.Second) {
				lines = append(lines, namedLine{legend(target.LegendFormat, l.Metric), l.Values})
			}
		}
		drawing.panel(panel.Title, panel.FieldConfig.Defaults.Unit, began, lines)
	}
	if err := os.WriteFile("../docs/dashboard.svg", []byte(drawing.svg()), 0o600); err != nil {
		t.Fatal(err)
	}
}

// legend fills the labels into a text such as "p50 {{path}}".
func legend(format string, labels map[string]string) string {
	for name, value := range labels {
		format = strings.ReplaceAll(format, "{{"+name+"}}", value)
	}
	return format
}

type namedLine struct {
	name   string
	points [][2]any
}

// drawing arranges line charts in rows of three.
type drawing struct {
	body   strings.Builder
	column int
	y      int
}

const (
	chartWidth, chartHeight = 380, 190 // of a panel with its title and legend
	plotWidth, plotHeight   = 310, 96
	plotLeft, plotTop       = 56, 28
	perRow                  = 3
	mostLines               = 6  // the legend has room for no more
	longestName             = 18 // in letters
)

var colors = []string{"#1f77b4", "#d62728", "#2ca02c", "#ff7f0e", "#9467bd", "#17becf"}

func newDrawing() *drawing { return &drawing{} }

func (d *drawing) heading(title string) {
	d.endRow()
	fmt.Fprintf(&d.body, `<text x="12" y="%d" class="row">%s</text>`+"\n", d.y+22, html.EscapeString(title))
	d.y += 32
}

func (d *drawing) endRow() {
	if d.column > 0 {
		d.column = 0
		d.y += chartHeight
	}
}

// panel draws the lines with the highest values. It leaves out those that are always 0, if others are not.
func (d *drawing) panel(title, unit string, began time.Time, lines []namedLine) {
	if d.column == perRow {
		d.endRow()
	}
	x, y := d.column*chartWidth, d.y
	d.column++
	flat := func(l namedLine) bool { return l.highest() == 0 }
	if slices.ContainsFunc(lines, func(l namedLine) bool { return !flat(l) }) {
		lines = slices.DeleteFunc(lines, flat)
	}
	top, end := 0.0, 1.0
	for _, l := range lines {
		top = max(top, l.highest())
		for _, sample := range l.points {
			at, _ := point(sample)
			end = max(end, at-float64(began.Unix()))
		}
	}
	top = cmp.Or(top, 1)
	slices.SortStableFunc(lines, func(a, b namedLine) int { return cmp.Compare(b.highest(), a.highest()) })
	fmt.Fprintf(&d.body, `<g transform="translate(%d,%d)"><text x="12" y="18" class="title">%s</text>`+"\n", x, y, html.EscapeString(title))
	fmt.Fprintf(&d.body, `<path d="M%d %dh%d" class="axis"/><path d="M%[1]d %[4]dh%[3]d" class="grid"/>`, plotLeft, plotTop+plotHeight, plotWidth, plotTop)
	fmt.Fprintf(&d.body, `<text x="%d" y="%d" class="end">%s</text><text x="%[1]d" y="%[4]d" class="end">0</text>`+"\n",
		plotLeft-5, plotTop+4, inUnit(top, unit), plotTop+plotHeight+4)
	for i, l := range lines[:min(len(lines), mostLines)] {
		var path strings.Builder
		pen := "M"
		for _, sample := range l.points {
			at, value := point(sample)
			if math.IsNaN(value) {
				pen = "M"
				continue
			}
			fmt.Fprintf(&path, "%s%.0f %.1f", pen, plotLeft+plotWidth*(at-float64(began.Unix()))/end, plotTop+plotHeight*(1-value/top))
			pen = "L"
		}
		fmt.Fprintf(&d.body, `<path d="%s" class="line" stroke="%s"/>`+"\n", path.String(), colors[i])
		lx, ly := plotLeft+i%3*108, plotTop+plotHeight+20+i/3*16
		fmt.Fprintf(&d.body, `<path d="M%d %dh10" class="line" stroke="%s"/><text x="%d" y="%d">%s</text>`+"\n",
			lx, ly-4, colors[i], lx+14, ly, html.EscapeString(l.name[:min(len(l.name), longestName)]))
	}
	d.body.WriteString("</g>\n")
}

func (l namedLine) highest() (highest float64) {
	for _, sample := range l.points {
		if _, value := point(sample); value > highest { // NaN is not
			highest = value
		}
	}
	return highest
}

// inUnit returns a value for people, in a unit of Grafana.
func inUnit(value float64, unit string) string {
	switch unit {
	case "s":
		if value < 1 {
			return fmt.Sprintf("%.3g ms", value*1000)
		}
		return fmt.Sprintf("%.3g s", value)
	case "reqps":
		return fmt.Sprintf("%.3g/s", value)
	case "percentunit":
		return fmt.Sprintf("%.3g %%", value*100)
	case "bytes":
		return fmt.Sprintf("%.3g MB", value/1e6)
	default:
		return fmt.Sprintf("%.3g", value)
	}
}

func (d *drawing) svg() string {
	d.endRow()
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="10">
<style>
.row { font-size: 15px; font-weight: bold } .title { font-size: 12px } .end { text-anchor: end }
.line { fill: none; stroke-width: 1.3 } .axis { stroke: #555 } .grid { stroke: #ddd }
</style>
<rect width="100%%" height="100%%" fill="#fff"/>
%s</svg>
`, perRow*chartWidth, d.y+8, d.body.String())
}
