package main

import "fmt"

// plotStorms draws what floods do to the p99 of a check; where it is calm that is 1.
func plotStorms(r *report) []byte {
	scenes := []string{flooded, crowded, mobbed}
	labels := []string{"64 clients", "1,000 clients", "64 that come back at once"}
	classes := []string{"verify", "user", "plain"} // by deployment
	most := 2.0
	for i := range r.Storms {
		for _, name := range scenes {
			most = max(most, r.Storms[i].toCalm(name)+0.2)
		}
	}
	c := newChart("A check's p99 beside a flood of logins, to that without", most)
	slot := c.width / float64(len(scenes))
	bar := min(44, slot/float64(len(classes)+1))
	for i, name := range scenes {
		middle := c.left + slot*(float64(i)+0.5)
		for j := range r.Storms {
			st := &r.Storms[j]
			x := middle + (float64(j)-float64(len(r.Storms))/2)*(bar+6)
			value := st.toCalm(name)
			c.rect(classes[j%len(classes)], x, c.y(value), bar, c.y(0)-c.y(value), 3)
			c.text(x+bar/2, c.y(value)-6, "middle", "value", fmt.Sprintf("%.1f", value))
			c.text(x+bar/2, c.y(0)+36, "middle", "small", fmt.Sprintf("%.0f %%", 100*st.scene(name).median(loginShare)))
		}
		c.text(middle, c.y(0)+19, "middle", "", labels[i])
	}
	c.line("one", c.left, c.y(1), c.left+c.width, c.y(1))
	c.line("axis", c.left, c.y(0), c.left+c.width, c.y(0))
	x := c.left
	for j := range r.Storms {
		c.rect(classes[j%len(classes)], x, 42, 11, 11, 2)
		c.text(x+17, 52, "start", "small", r.Storms[j].Name)
		x += 40 + 7*float64(len(r.Storms[j].Name))
	}
	conditions := r.conditions()
	c.caption("Below: the flood's logins, of what bcrypt allows. "+conditions[1], conditions[0])
	return c.end()
}
