// Package plot draws a report as SVG, with gonum/plot.
package plot

import (
	"bytes"
	"fmt"
	"image/color"
	"maps"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/sessiond/sessiond/cmd/sessionbench/must"
	"github.com/sessiond/sessiond/cmd/sessionbench/report"
	"github.com/sessiond/sessiond/cmd/sessionbench/size"
)

// chart is a bar chart. Each series has a name and one bar in every group.
type chart struct {
	title  string
	groups []string
	series map[string][]report.Spread
}

// All returns an SVG plot for each of the measurements compare, growth and storm in the report.
func All(r *report.Report) map[report.Part][]byte {
	charts := map[report.Part]*chart{
		report.Compare: {title: "Checks a second, as a share of what an empty handler serves"},
		report.Growth:  {title: "Checks a second, by the sessions in Redis"},
		report.Storm:   {title: "A check's p99 beside a flood of logins, to that without", groups: []string{report.Flooded, report.Crowded, report.Rude}},
	}
	plots := map[report.Part][]byte{}
	for part, c := range charts {
		c.series = map[string][]report.Spread{}
		tables := r.Of(part)
		for _, t := range tables {
			switch {
			case part == report.Compare && t.Alg == tables[0].Alg:
				c.groups = append(c.groups, fmt.Sprintf("%d connections,\n%s tokens:\n%.1f × plain", t.Callers, t.Tokens, t.Ratio(report.Rate, r.Service, report.Plain).Median))
				for _, row := range t.Rows {
					if row.Name == report.Plain || strings.HasPrefix(row.Name, report.Verify) {
						c.series[row.Name] = append(c.series[row.Name], t.Ratio(report.Rate, row.Name, report.Empty))
					}
				}
			case part == report.Growth:
				for _, row := range t.Rows {
					c.groups = append(c.groups, row.Name)
					c.series[report.Verify] = append(c.series[report.Verify], t.Ratio(report.Rate, row.Name, t.Rows[0].Name))
				}
			case part == report.Storm:
				for _, scene := range c.groups {
					c.series[t.Name] = append(c.series[t.Name], t.Row(scene).Spread(report.ToCalm))
				}
			}
		}
		if len(tables) > 0 {
			plots[part] = c.svg(fmt.Sprintf("Medians of %d interleaved rounds of %v, and their confidence intervals. The load, the services and the servers share the cores.\n%s.",
				len(tables[0].Rows[0].Rounds), tables[0].Round, r.Machine))
		}
	}
	return plots
}

var palette = []color.Color{
	color.RGBA{0xaf, 0xb8, 0xc1, 0xff}, color.RGBA{0x09, 0x69, 0xda, 0xff}, color.RGBA{0xbf, 0x87, 0x00, 0xff}, color.RGBA{0x1a, 0x7f, 0x37, 0xff},
}

// series holds all bars of one colour in a chart, and the point in the middle of each bar's top.
type series struct {
	plotter.XYs
	bars []report.Spread
}

func (s series) Label(i int) string { return fmt.Sprintf("%.2f", s.bars[i].Median) }
func (s series) YError(i int) (low, high float64) {
	return s.bars[i].Median - s.bars[i].Low, s.bars[i].High - s.bars[i].Median
}

var sans = font.Font{Typeface: "Liberation", Variant: "Sans"}

func newPlot(title, caption string) *plot.Plot {
	p := plot.New()
	p.Title.Text, p.X.Label.Text = title, caption
	p.Title.TextStyle.Font, p.X.Label.TextStyle.Font = font.From(sans, 15), font.From(sans, 9)
	p.Legend.TextStyle.Font, p.X.Tick.Label.Font, p.Y.Tick.Label.Font = font.From(sans, 10), font.From(sans, 10), font.From(sans, 10)
	p.Legend.Top, p.Legend.Left = true, true
	p.Add(plotter.NewGrid())
	return p
}

func render(p *plot.Plot) []byte {
	canvas := vgsvg.New(760, 430)
	p.Draw(draw.New(canvas))
	var b bytes.Buffer
	must.Get(canvas.WriteTo(&b))
	return b.Bytes()
}

func (c *chart) svg(caption string) []byte {
	p := newPlot(c.title, caption)
	width := 0.8 / float64(len(c.series))
	for i, name := range slices.Sorted(maps.Keys(c.series)) {
		s := series{bars: c.series[name]}
		for j, bar := range s.bars {
			x := float64(j) + (float64(i)-float64(len(c.series)-1)/2)*width
			s.XYs = append(s.XYs, plotter.XY{X: x, Y: bar.Median})
			left, right := x-0.45*width, x+0.45*width
			rectangle := must.Get(plotter.NewPolygon(plotter.XYs{{X: left}, {X: left, Y: bar.Median}, {X: right, Y: bar.Median}, {X: right}}))
			rectangle.Color, rectangle.LineStyle.Width = palette[i%len(palette)], 0
			p.Add(rectangle)
			if j == 0 {
				p.Legend.Add(name, rectangle)
			}
		}
		labels := must.Get(plotter.NewLabels(s))
		labels.Offset = vg.Point{X: -8, Y: 4}
		for j := range s.bars {
			labels.TextStyle[j].Font, labels.XYs[j].Y = font.From(sans, 9), s.bars[j].High
		}
		p.Add(must.Get(plotter.NewYErrorBars(s)), labels)
	}
	p.NominalX(c.groups...)
	p.Y.Min, p.Y.Max = 0, 1.3*p.Y.Max // leaves room for the legend above the bars
	return render(p)
}

// Sizes draws how the parts of a deployment grow with the number of users, the smallest first. Both axes are logarithmic.
func Sizes(sizes []size.Size) []byte {
	p := newPlot("How the parts grow", "users")
	p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
	p.X.Tick.Marker, p.Y.Tick.Marker = powers{}, powers{}
	for i, line := range []struct {
		name string
		of   func(*size.Size) float64
	}{
		{"replicas", func(s *size.Size) float64 { return float64(s.Replicas) }},
		{"Redis shards", func(s *size.Size) float64 { return float64(s.Shards) }},
		{"Redis, GB of memory", func(s *size.Size) float64 { return s.RedisGB }},
		{"Postgres, GB on disk", func(s *size.Size) float64 { return s.PostgresGB }},
		{"Postgres, MB of WAL a second", func(s *size.Size) float64 { return s.WALMB }},
	} {
		var points plotter.XYs
		for j := range sizes {
			points = append(points, plotter.XY{X: sizes[j].Users, Y: line.of(&sizes[j])})
		}
		drawn := must.Get(plotter.NewLine(points))
		drawn.Color, drawn.Width = lines[i], 2
		p.Add(drawn)
		p.Legend.Add(line.name, drawn)
	}
	p.X.Max *= 1.5 // leaves room for the last label
	return render(p)
}

var lines = append(slices.Clone(palette), color.RGBA{0x82, 0x50, 0xdf, 0xff})

// powers marks the powers of ten.
type powers struct{}

func (powers) Ticks(low, high float64) (ticks []plot.Tick) {
	for n := math.Floor(math.Log10(low)); math.Pow(10, n) <= high; n++ {
		ticks = append(ticks, plot.Tick{Value: math.Pow(10, n), Label: size.Number(math.Pow(10, n))})
	}
	return ticks
}

// Guess is a rate that was predicted, and the same rate as it was measured.
type Guess struct {
	Name                string
	Predicted, Measured report.Spread
}

// Guesses draws predicted rates beside measured ones.
func Guesses(guesses []Guess, machine string) []byte {
	c := &chart{title: "Thousand checks a second, predicted and measured", series: map[string][]report.Spread{}}
	for _, g := range guesses {
		c.groups = append(c.groups, strings.ReplaceAll(g.Name, ", ", ",\n"))
		for name, s := range map[string]report.Spread{"predicted": g.Predicted, "measured": g.Measured} {
			c.series[name] = append(c.series[name], report.Spread{Median: s.Median / 1000, Low: s.Low / 1000, High: s.High / 1000})
		}
	}
	return c.svg("Medians of the rounds, and the confidence intervals of what was measured. \"Small\" containers are the limit.\n" + machine + ".")
}
