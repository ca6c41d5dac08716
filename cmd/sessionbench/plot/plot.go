// Package plot draws a report as SVG, with gonum/plot.
package plot

import (
	"bytes"
	"fmt"
	"image/color"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/sessiond/sessiond/cmd/sessionbench/report"
)

// All draws the parts of a report that have a plot.
func All(r *report.Report) (map[report.Part][]byte, error) {
	plots := map[report.Part][]byte{}
	for part, draw := range map[report.Part]func(*report.Report, []*report.Table) (*chart, error){
		report.Compare: compare, report.Growth: growth, report.Storm: storm,
	} {
		tables := r.Of(part)
		if len(tables) == 0 {
			continue
		}
		c, err := draw(r, tables)
		if err != nil {
			return nil, err
		}
		if plots[part], err = c.svg(r, tables[0]); err != nil {
			return nil, err
		}
	}
	return plots, nil
}

var palette = []color.Color{
	color.RGBA{0xaf, 0xb8, 0xc1, 0xff}, color.RGBA{0x09, 0x69, 0xda, 0xff}, color.RGBA{0xbf, 0x87, 0x00, 0xff}, color.RGBA{0x1a, 0x7f, 0x37, 0xff},
}

type chart struct{ *plot.Plot }

func newChart(title string) *chart {
	c := &chart{plot.New()}
	sans := func(styles ...*text.Style) {
		for _, s := range styles {
			s.Font.Typeface, s.Font.Variant = "Liberation", "Sans"
		}
	}
	c.Title.Text = title
	sans(&c.Title.TextStyle, &c.Legend.TextStyle, &c.X.Label.TextStyle, &c.X.Tick.Label, &c.Y.Tick.Label)
	c.Title.TextStyle.Font.Size, c.X.Label.TextStyle.Font.Size = 15, 9
	c.Legend.Top, c.Legend.Left = true, true
	c.Y.Min = 0
	c.Add(plotter.NewGrid())
	return c
}

// svg writes the chart, with a line below that says where its figures come from.
func (c *chart) svg(r *report.Report, t *report.Table) ([]byte, error) {
	c.X.Label.Text += fmt.Sprintf("\nMedians of %d interleaved rounds of %v, and their confidence intervals. The load, the services, Redis and PostgreSQL\nshare %d cores. %s, %s, Redis %s.",
		len(t.Rows[0].Rounds), t.Round, r.Machine.Cores, r.Machine.CPU, r.Machine.Go, r.Machine.Redis)
	c.Y.Max *= 1.25 // room for the legend
	canvas := vgsvg.New(760, 430)
	c.Draw(draw.New(canvas))
	var b bytes.Buffer
	_, err := canvas.WriteTo(&b)
	return b.Bytes(), err
}

// point is a value at a place on the X axis.
type point struct {
	x float64
	report.Spread
}

type points []point

func (ps points) Len() int                         { return len(ps) }
func (ps points) XY(i int) (x, y float64)          { return ps[i].x, ps[i].Median }
func (ps points) Value(i int) float64              { return ps[i].Median }
func (ps points) Label(i int) string               { return fmt.Sprintf("%.2f", ps[i].Median) }
func (ps points) YError(i int) (low, high float64) { return ps[i].Median - ps[i].Low, ps[i].High - ps[i].Median }

// whiskers adds confidence intervals and values.
func (c *chart) whiskers(ps points) error {
	errs, err := plotter.NewYErrorBars(ps)
	if err != nil {
		return err
	}
	labels, err := plotter.NewLabels(ps)
	if err != nil {
		return err
	}
	for i := range labels.TextStyle {
		labels.TextStyle[i].Font = font.Font{Typeface: "Liberation", Variant: "Sans", Size: 10}
		labels.XYs[i].Y = ps[i].High
	}
	labels.Offset = vg.Point{X: -9, Y: 4}
	c.Add(errs, labels)
	return nil
}

// bars adds one bar in each group, the one of that number of so many.
func (c *chart) bars(name string, number, of int, spreads []report.Spread) error {
	width := 0.8 / float64(of)
	ps := make(points, len(spreads))
	for i, s := range spreads {
		ps[i] = point{float64(i) + (float64(number)-float64(of-1)/2)*width, s}
	}
	for i, p := range ps {
		bar, err := plotter.NewPolygon(plotter.XYs{
			{X: p.x - width*0.45, Y: 0}, {X: p.x - width*0.45, Y: p.Median}, {X: p.x + width*0.45, Y: p.Median}, {X: p.x + width*0.45, Y: 0},
		})
		if err != nil {
			return err
		}
		bar.Color, bar.LineStyle.Width = palette[number%len(palette)], 0
		c.Add(bar)
		if i == 0 {
			c.Legend.Add(name, bar)
		}
	}
	return c.whiskers(ps)
}

// compare draws the rates of the plain design and of sessiond. That of the empty handler is 1.
func compare(r *report.Report, tables []*report.Table) (*chart, error) {
	c := newChart("Checks a second, as a share of what an empty handler serves")
	var labels []string
	rows := []string{report.Plain}
	for _, row := range tables[0].Rows {
		if row.Name == report.Verify || len(row.Name) > len(report.Verify) && row.Name[:len(report.Verify)+1] == report.Verify+" " {
			rows = append(rows, row.Name)
		}
	}
	spreads := make([][]report.Spread, len(rows))
	for _, t := range tables {
		if t.Alg != tables[0].Alg {
			continue
		}
		labels = append(labels, fmt.Sprintf("%d connections,\n%s tokens,\n%.1f × plain", t.Callers, t.Tokens, t.Ratio(report.Rate, r.Service, report.Plain).Median))
		for i, name := range rows {
			spreads[i] = append(spreads[i], t.Ratio(report.Rate, name, report.Empty))
		}
	}
	for i, name := range rows {
		if err := c.bars(name, i, len(rows), spreads[i]); err != nil {
			return nil, err
		}
	}
	c.NominalX(labels...)
	return c, nil
}

// growth draws the rate by how many sessions Redis holds. With the first number it is 1.
func growth(_ *report.Report, tables []*report.Table) (*chart, error) {
	t := tables[0]
	c := newChart("Checks a second, by how many sessions Redis holds")
	c.X.Scale, c.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	c.X.Label.Text = fmt.Sprintf("Sessions. /v1/verify with %s = 1; the same measured twice differs by %.2f.", t.Rows[0].Name, t.Noise())
	var many, one points
	for _, row := range t.Rows[:len(t.Rows)-1] {
		p := point{float64(row.Sessions), t.Ratio(report.Rate, row.Name, t.Rows[0].Name)}
		if row.OneUser {
			one = append(one, p)
		} else {
			many = append(many, p)
		}
		c.Y.Max = math.Max(c.Y.Max, p.High)
	}
	line, dots, err := plotter.NewLinePoints(many)
	if err != nil {
		return nil, err
	}
	user, err := plotter.NewScatter(one)
	if err != nil {
		return nil, err
	}
	line.Color, dots.Color, user.Color = palette[1], palette[1], palette[2]
	dots.Shape, user.Shape = draw.CircleGlyph{}, draw.CircleGlyph{}
	c.Add(line, dots, user)
	c.Legend.Add("of as many users", line, dots)
	c.Legend.Add("all of one user", user)
	return c, c.whiskers(append(many, one...))
}

// storm draws the p99 of checks beside floods. Without a flood it is 1.
func storm(_ *report.Report, tables []*report.Table) (*chart, error) {
	c := newChart("A check's p99 beside a flood of logins, to that without")
	scenes := []string{report.Flooded, report.Crowded, report.Rude}
	for i, t := range tables {
		var spreads []report.Spread
		for _, name := range scenes {
			spreads = append(spreads, t.Row(name).Spread(report.ToCalm))
		}
		if err := c.bars(t.Name, i, len(tables), spreads); err != nil {
			return nil, err
		}
	}
	c.NominalX(scenes...)
	return c, nil
}
