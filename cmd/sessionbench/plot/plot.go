// Package plot draws a report as SVG, with gonum/plot.
package plot

import (
	"bytes"
	"fmt"
	"image/color"
	"maps"
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

func (c *chart) svg(caption string) []byte {
	sans := font.Font{Typeface: "Liberation", Variant: "Sans"}
	p := plot.New()
	p.Title.Text, p.X.Label.Text = c.title, caption
	p.Title.TextStyle.Font, p.X.Label.TextStyle.Font = font.From(sans, 15), font.From(sans, 9)
	p.Legend.TextStyle.Font, p.X.Tick.Label.Font, p.Y.Tick.Label.Font = font.From(sans, 10), font.From(sans, 10), font.From(sans, 10)
	p.Legend.Top, p.Legend.Left = true, true
	p.Add(plotter.NewGrid())
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
	canvas := vgsvg.New(760, 430)
	p.Draw(draw.New(canvas))
	var b bytes.Buffer
	must.Get(canvas.WriteTo(&b))
	return b.Bytes()
}

// Sizes draws how the parts of a deployment grow with the number of users. Both axes are logarithmic.
func Sizes(sizes []size.Size) []byte { return nil }
