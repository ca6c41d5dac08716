// Package plot draws a report as SVG, with gonum/plot.
package plot

import (
	"bytes"
	"fmt"
	"image/color"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/sessiond/sessiond/cmd/sessionbench/report"
)

// chart is groups of bars. Each group has a bar of every series.
type chart struct {
	title  string
	groups []string
	series []series
}

type series struct {
	name string
	bars []report.Spread
}

// All draws the parts of a report that have a plot.
func All(r *report.Report) (map[report.Part][]byte, error) {
	plots := map[report.Part][]byte{}
	for part, chartOf := range map[report.Part]func(*report.Report, []*report.Table) chart{
		report.Compare: compare, report.Growth: growth, report.Storm: storm,
	} {
		if tables := r.Of(part); len(tables) > 0 {
			svg, err := chartOf(r, tables).svg(fmt.Sprintf(
				"Medians of %d interleaved rounds of %v, and their confidence intervals. The load, the services, Redis and\nPostgreSQL share %d cores. %v.",
				len(tables[0].Rows[0].Rounds), tables[0].Round, r.Machine.Cores, r.Machine))
			if err != nil {
				return nil, err
			}
			plots[part] = svg
		}
	}
	return plots, nil
}

// compare draws the rates of the plain design and of sessiond. That of the empty handler is 1.
func compare(r *report.Report, tables []*report.Table) chart {
	c := chart{title: "Checks a second, as a share of what an empty handler serves"}
	for _, row := range tables[0].Rows {
		if row.Name == report.Plain || strings.HasPrefix(row.Name, report.Verify) {
			c.series = append(c.series, series{name: row.Name})
		}
	}
	for _, t := range tables {
		if t.Alg != tables[0].Alg {
			continue
		}
		c.groups = append(c.groups, fmt.Sprintf("%d connections,\n%s tokens:\n%.1f × plain", t.Callers, t.Tokens, t.Ratio(report.Rate, r.Service, report.Plain).Median))
		for i := range c.series {
			c.series[i].bars = append(c.series[i].bars, t.Ratio(report.Rate, c.series[i].name, report.Empty))
		}
	}
	return c
}

// growth draws the rate by what Redis holds. That of the first row is 1.
func growth(_ *report.Report, tables []*report.Table) chart {
	c := chart{title: "Checks a second, by the sessions in Redis", series: []series{{name: report.Verify}}}
	for _, row := range tables[0].Rows {
		c.groups = append(c.groups, row.Name)
		c.series[0].bars = append(c.series[0].bars, tables[0].Ratio(report.Rate, row.Name, tables[0].Rows[0].Name))
	}
	return c
}

// storm draws the p99 of checks beside floods. Without a flood it is 1.
func storm(_ *report.Report, tables []*report.Table) chart {
	c := chart{title: "A check's p99 beside a flood of logins, to that without", groups: []string{report.Flooded, report.Crowded, report.Rude}}
	for _, t := range tables {
		s := series{name: t.Name}
		for _, scene := range c.groups {
			s.bars = append(s.bars, t.Row(scene).Spread(report.ToCalm))
		}
		c.series = append(c.series, s)
	}
	return c
}

var palette = []color.Color{
	color.RGBA{0xaf, 0xb8, 0xc1, 0xff}, color.RGBA{0x09, 0x69, 0xda, 0xff}, color.RGBA{0xbf, 0x87, 0x00, 0xff}, color.RGBA{0x1a, 0x7f, 0x37, 0xff},
}

// intervals are bars whose middles are at these places.
type intervals struct {
	plotter.XYs
	bars []report.Spread
}

func (s intervals) Label(i int) string { return fmt.Sprintf("%.2f", s.bars[i].Median) }
func (s intervals) YError(i int) (low, high float64) {
	return s.bars[i].Median - s.bars[i].Low, s.bars[i].High - s.bars[i].Median
}

// svg draws the chart with a caption.
func (c chart) svg(caption string) ([]byte, error) {
	sans := font.Font{Typeface: "Liberation", Variant: "Sans"}
	p := plot.New()
	p.Title.Text, p.X.Label.Text = c.title, caption
	p.Title.TextStyle.Font, p.X.Label.TextStyle.Font = font.From(sans, 15), font.From(sans, 9)
	p.Legend.TextStyle.Font, p.X.Tick.Label.Font, p.Y.Tick.Label.Font = font.From(sans, 10), font.From(sans, 10), font.From(sans, 10)
	p.Legend.Top, p.Legend.Left = true, true
	p.Add(plotter.NewGrid())
	width := 0.8 / float64(len(c.series))
	for i, s := range c.series {
		in := intervals{bars: s.bars}
		for j, bar := range s.bars {
			x := float64(j) + (float64(i)-float64(len(c.series)-1)/2)*width
			in.XYs = append(in.XYs, plotter.XY{X: x, Y: bar.Median})
			left, right := x-0.45*width, x+0.45*width
			rectangle, err := plotter.NewPolygon(plotter.XYs{{X: left}, {X: left, Y: bar.Median}, {X: right, Y: bar.Median}, {X: right}})
			if err != nil {
				return nil, fmt.Errorf("plot %s: %w", s.name, err)
			}
			rectangle.Color, rectangle.LineStyle.Width = palette[i%len(palette)], 0
			p.Add(rectangle)
			if j == 0 {
				p.Legend.Add(s.name, rectangle)
			}
		}
		whiskers, err := plotter.NewYErrorBars(in)
		if err != nil {
			return nil, fmt.Errorf("plot %s: %w", s.name, err)
		}
		labels, err := plotter.NewLabels(in)
		if err != nil {
			return nil, fmt.Errorf("plot %s: %w", s.name, err)
		}
		for j := range labels.TextStyle {
			labels.TextStyle[j].Font = font.From(sans, 9)
			labels.XYs[j].Y = s.bars[j].High
		}
		labels.Offset = vg.Point{X: -8, Y: 4}
		p.Add(whiskers, labels)
	}
	p.NominalX(c.groups...)
	p.Y.Min, p.Y.Max = 0, 1.3*p.Y.Max // room for the legend
	canvas := vgsvg.New(760, 430)
	p.Draw(draw.New(canvas))
	var b bytes.Buffer
	_, err := canvas.WriteTo(&b)
	return b.Bytes(), err
}
