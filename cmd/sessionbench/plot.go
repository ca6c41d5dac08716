package main

import (
	"encoding/xml"
	"fmt"
	"math"
	"strings"
)

// svg is a picture in the making. It shows in light and in dark, without a
// background of its own.
type svg struct{ strings.Builder }

const svgStyle = `<style>
text { font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328 }
.title { font-size: 16px; font-weight: 600 } .small { font-size: 11.5px; fill: #59636e } .value { font-weight: 600 }
.grid { stroke: #d1d9e0 } .axis { stroke: #59636e } .one { stroke: #59636e; stroke-dasharray: 5 4 }
.plain { fill: #afb8c1 } .verify { fill: #0969da } .line { stroke: #0969da; stroke-width: 2.5; fill: none }
.whisker { stroke: #1f2328; stroke-opacity: .55 } .noise { fill: #59636e; fill-opacity: .14 } .user { fill: #bf8700 }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc } .small { fill: #9198a1 } .grid { stroke: #3d444d } .axis, .one { stroke: #9198a1 }
.plain { fill: #656c76 } .verify { fill: #4493f8 } .line { stroke: #4493f8 } .whisker { stroke: #f0f6fc }
.noise { fill: #9198a1 } .user { fill: #d29922 } }
</style>
`

const plotWidth, plotHeight = 760, 410

func newSVG(title string) *svg {
	g := &svg{}
	fmt.Fprintf(g, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%[1]d" height="%[2]d" role="img" aria-labelledby="title">`+"\n", plotWidth, plotHeight)
	fmt.Fprintf(g, `<title id="title">%s</title>`+"\n", escape(title))
	g.WriteString(svgStyle)
	g.text(20, 28, "start", "title", title)
	return g
}

func (g *svg) text(x, y float64, anchor, class, text string) {
	fmt.Fprintf(g, `<text x="%.1f" y="%.1f" text-anchor="%s" class="%s">%s</text>`+"\n", x, y, anchor, class, escape(text))
}

func (g *svg) line(class string, x1, y1, x2, y2 float64) {
	fmt.Fprintf(g, `<line class="%s" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`+"\n", class, x1, y1, x2, y2)
}

func (g *svg) rect(class string, x, y, width, height, corner float64) {
	fmt.Fprintf(g, `<rect class="%s" x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="%.1f"/>`+"\n", class, x, y, width, height, corner)
}

func (g *svg) circle(class string, x, y, radius float64) {
	fmt.Fprintf(g, `<circle class="%s" cx="%.1f" cy="%.1f" r="%.1f"/>`+"\n", class, x, y, radius)
}

// whisker shows from where to where the rounds went.
func (g *svg) whisker(x, from, to float64) {
	g.line("whisker", x, from, x, to)
	g.line("whisker", x-3, from, x+3, from)
	g.line("whisker", x-3, to, x+3, to)
}

func (g *svg) end() []byte {
	g.WriteString("</svg>\n")
	return []byte(g.String())
}

func escape(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // into memory
	return b.String()
}

// chart is the area between the axes, with ratios on the upright one.
type chart struct {
	*svg
	left, top, width, height float64
	most                     float64 // the ratio at the top
}

func newChart(title string, most float64) *chart {
	c := &chart{svg: newSVG(title), left: 52, top: 62, width: plotWidth - 52 - 24, height: plotHeight - 62 - 96, most: math.Ceil(most*5) / 5}
	step := 0.2
	for c.most/step > 12 {
		step *= 5
	}
	for i := 0; float64(i)*step <= c.most+1e-9; i++ {
		at := float64(i) * step
		c.line("grid", c.left, c.y(at), c.left+c.width, c.y(at))
		c.text(c.left-8, c.y(at)+4, "end", "small", fmt.Sprintf("%.1f", at))
	}
	return c
}

func (c *chart) y(ratio float64) float64 {
	return c.top + c.height*(1-min(max(ratio, 0), c.most)/c.most)
}

func (c *chart) caption(lines ...string) {
	for i, line := range lines {
		c.text(20, c.top+c.height+66+17*float64(i), "start", "small", line)
	}
}

// plotComparison draws the rates of the plain design and of /v1/verify beside
// that of the empty handler, which is 1.
func plotComparison(r *report) []byte {
	type group struct {
		label         string
		plain, verify spread
		toPlain       spread
	}
	var groups []group
	most := 1.0
	for i := range r.Comparison.Settings {
		t := &r.Comparison.Settings[i]
		if t.Alg != r.Config.Algorithms[0] {
			continue
		}
		p, _ := t.ratio(rate, plain, empty)
		v, ok := t.ratio(rate, verify, empty)
		toPlain, _ := t.ratio(rate, verify, plain)
		if !ok {
			continue
		}
		label := count(t.Callers, "connection")
		if t.Tokens == fresh {
			label = fmt.Sprintf("%d, every token new", t.Callers)
		}
		groups = append(groups, group{label, p, v, toPlain})
		most = max(most, p.Most, v.Most)
	}
	c := newChart("Checks a second, as a share of what an empty handler serves", most+0.05)
	c.line("one", c.left, c.y(1), c.left+c.width, c.y(1))
	c.text(c.left+c.width, c.y(1)-6, "end", "small", "a chi handler that does nothing = 1")
	slot := c.width / float64(max(len(groups), 1))
	bar := min(56, slot/3.4)
	for i, g := range groups {
		middle := c.left + slot*(float64(i)+0.5)
		for _, b := range []struct {
			class string
			x     float64
			s     spread
		}{{"plain", middle - bar - 4, g.plain}, {"verify", middle + 4, g.verify}} {
			c.rect(b.class, b.x, c.y(b.s.Median), bar, c.y(0)-c.y(b.s.Median), 3)
			c.whisker(b.x+bar/2, c.y(b.s.Least), c.y(b.s.Most))
			c.text(b.x+bar/2, min(c.y(b.s.Median), c.y(b.s.Most))-6, "middle", "value", fmt.Sprintf("%.2f", b.s.Median))
		}
		c.text(middle, c.y(0)+19, "middle", "", g.label)
		c.text(middle, c.y(0)+36, "middle", "small", fmt.Sprintf("%.1f × the plain design", g.toPlain.Median))
	}
	c.line("axis", c.left, c.y(0), c.left+c.width, c.y(0))
	c.rect("plain", c.left, 42, 11, 11, 2)
	c.text(c.left+17, 52, "start", "small", "plain design: verify the JWT, one MGET")
	c.rect("verify", c.left+250, 42, 11, 11, 2)
	c.text(c.left+267, 52, "start", "small", "/v1/verify")
	c.caption(r.conditions()...)
	return c.end()
}

// plotGrowth draws the rate by how many sessions Redis holds; with the first
// number of them it is 1.
func plotGrowth(r *report) []byte {
	g := r.Growth
	most, few, many := 1.2, math.Inf(1), 0.0
	for _, p := range g.Points {
		few, many = min(few, float64(p.Sessions)), max(many, float64(p.Sessions))
		if s, ok := g.Setting.ratio(rate, p.Name, g.Points[0].Name); ok {
			most = max(most, s.Most+0.1)
		}
	}
	c := newChart("Checks a second, by how many sessions Redis holds", most)
	x := func(sessions int) float64 {
		span := max(math.Log(many/few), 1e-9)
		return c.left + c.width*(0.08+0.8*math.Log(float64(sessions)/few)/span)
	}
	noise := g.noise()
	c.rect("noise", c.left, c.y(1+noise), c.width, c.y(1-noise)-c.y(1+noise), 0)
	c.text(c.left+c.width-6, c.y(1+noise)-6, "end", "small", "the same, measured twice")
	var points []string
	for _, p := range g.Points {
		s, ok := g.Setting.ratio(rate, p.Name, g.Points[0].Name)
		if !ok || p.again {
			continue
		}
		at := x(p.Sessions)
		if s.Least != s.Most {
			c.whisker(at, c.y(s.Least), c.y(s.Most))
		}
		if p.OneUser {
			c.circle("user", at, c.y(s.Median), 6)
			c.text(at, c.y(s.Least)+20, "middle", "value", fmt.Sprintf("%.2f", s.Median))
			c.text(at, c.y(s.Least)+36, "middle", "small", "all of one user")
		} else {
			points = append(points, fmt.Sprintf("%.1f,%.1f", at, c.y(s.Median)))
			c.circle("verify", at, c.y(s.Median), 5)
			c.text(at, c.y(s.Least)+20, "middle", "value", fmt.Sprintf("%.2f", s.Median))
		}
		c.text(at, c.y(0)+19, "middle", "", thousands(p.Sessions))
	}
	fmt.Fprintf(c, `<polyline class="line" points="%s"/>`+"\n", strings.Join(points, " "))
	c.line("axis", c.left, c.y(0), c.left+c.width, c.y(0))
	c.text(c.left, 52, "start", "small", fmt.Sprintf("/v1/verify with %s sessions = 1", thousands(g.Points[0].Sessions)))
	c.caption(r.conditions()...)
	return c.end()
}

// conditions say under a plot where its figures come from.
func (r *report) conditions() []string {
	return []string{
		fmt.Sprintf("Medians of %d interleaved rounds of %v, and their range. The load, the services, Redis and PostgreSQL share %s.",
			r.Config.Rounds, r.Config.Round, count(r.Machine.Cores, "core")),
		fmt.Sprintf("%s, %s, Redis %s.", r.Machine.CPU, r.Machine.Go, r.Machine.Redis),
	}
}

// thousands writes a number as people read it.
func thousands(n int) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
