package faultsuite

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	drawn      = 80 * time.Second // longer rows are drawn up to here
	slots      = 240
	plotWidth  = 960.0
	plotHeight = 220.0
	plotLeft   = 60.0
	plotTop    = 56.0
)

// bands are the kinds of answers in the picture, from the bottom up.
var bands = []struct{ name, colour string }{
	{"accepted", "#1a7f37"},
	{"refused, revoked", "#afb8c1"},
	{"503 or no answer", "#bf8700"},
	{"wrong", "#cf222e"},
}

// draw writes a picture of the checks: how many of each kind were answered when, with the faults in
// the background.
func (r *row) draw(dir string, wrong []time.Duration) {
	r.t.Helper()
	from := r.faults[0].from - 2*time.Second
	to := min(r.stopped, from+drawn)
	x := func(at time.Duration) float64 {
		return plotLeft + plotWidth*min(1, max(0, float64(at-from)/float64(to-from)))
	}
	var counts [slots][4]int
	add := func(at time.Duration, band int) {
		if slot := int(slots * (at - from) / (to - from)); at >= from && at < to {
			counts[slot][band]++
		}
	}
	for _, o := range r.ops {
		if o.kind == check {
			add(o.end, [...]int{good: 0, refused: 1, unavailable: 2, odd: 2}[o.answer])
		}
	}
	for _, at := range wrong {
		add(at, 3)
	}
	highest := 1
	for _, c := range counts {
		highest = max(highest, c[0]+c[1]+c[2]+c[3])
	}

	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" font-family="sans-serif" font-size="13">`+"\n", plotLeft+plotWidth+20, plotTop+plotHeight+60)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="#ffffff"/><text x="%g" y="22" font-size="16">%d. %s</text>`+"\n", plotLeft, r.fault.number, r.fault.name)
	for _, f := range r.faults {
		if f.from < to {
			fmt.Fprintf(&b, `<rect x="%.1f" y="%g" width="%.1f" height="%g" fill="#ffebe9"/>`+"\n", x(f.from), plotTop, max(1, x(f.to)-x(f.from)), plotHeight)
		}
	}
	width := plotWidth / slots
	for i, c := range counts {
		y := plotTop + plotHeight
		for band, n := range c {
			height := plotHeight * float64(n) / float64(highest)
			if y -= height; n > 0 {
				fmt.Fprintf(&b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>`+"\n", plotLeft+float64(i)*width, y, width, height, bands[band].colour)
			}
		}
	}
	for second := time.Duration(0); second <= to-from; second += (to-from).Truncate(8*time.Second)/8 + time.Second {
		fmt.Fprintf(&b, `<text x="%.1f" y="%g" text-anchor="middle">%d s</text>`+"\n", x(from+second), plotTop+plotHeight+18, int(second.Seconds()))
	}
	fmt.Fprintf(&b, `<text x="%g" y="%g" text-anchor="end">%.0f</text><text x="%g" y="%g" text-anchor="end">0</text>`+"\n",
		plotLeft-6, plotTop+10, float64(highest)*slots/(to-from).Seconds(), plotLeft-6, plotTop+plotHeight)
	at := plotLeft
	for _, band := range append(bands[:len(bands):len(bands)], struct{ name, colour string }{"fault", "#ffebe9"}) {
		fmt.Fprintf(&b, `<rect x="%g" y="%g" width="12" height="12" fill="%s"/><text x="%g" y="%g">%s</text>`+"\n", at, plotTop+plotHeight+34, band.colour, at+18, plotTop+plotHeight+45, band.name)
		at += 30 + 8*float64(len(band.name))
	}
	fmt.Fprintf(&b, `<text x="%g" y="44" fill="#57606a">checks a second by their answer</text>`+"\n</svg>\n", plotLeft)
	path := filepath.Join(dir, fmt.Sprintf("row-%02d.svg", r.fault.number))
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		r.t.Error(err)
	}
}
