// Command docgen makes docs.html from openapi.json. The command 'go generate ./api' runs docgen.
package main

import (
	"bytes"
	_ "embed" // for the go:embed of the variable page
	"fmt"
	"html/template"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

//go:embed docs.tmpl.html
var page string

func main() {
	openAPI, err := os.ReadFile("openapi.json")
	if err == nil {
		err = os.WriteFile("docs.html", render(openAPI), 0o644) //nolint:gosec // gosec rule G306 demands mode 0600, but docs.html is not secret
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "docgen:", err)
		os.Exit(1)
	}
}

// render returns the HTML page that shows an OpenAPI document to people.
func render(openAPI []byte) []byte {
	t := template.New("docs").Funcs(template.FuncMap{
		"split": strings.Split, "upper": strings.ToUpper, "url": url, "general": func() map[string]string { return general }, "quote": quote,
	})
	root = parse("", openAPI)
	var out bytes.Buffer
	if err := template.Must(t.Parse(page)).Execute(&out, root); err != nil {
		panic(err)
	}
	return out.Bytes()
}

// general maps a status to a response that any route can return. The page /docs shows it once.
var general = map[string]string{
	"405": "MethodNotAllowed", "413": "TooLarge", "415": "UnsupportedMediaType", "431": "HeadersTooLarge", "500": "InternalError", "503": "Unavailable",
}

// node is a JSON value. Unlike a Go map, it keeps the order of an object's members.
type node struct {
	Name  string // the node's key in its object, or its index in its array
	Nodes []*node
	raw   jsontext.Value
}

// root is the whole OpenAPI document. Get looks up every $ref in root.
var root *node

func parse(name string, raw jsontext.Value) *node {
	n := &node{Name: name, raw: raw}
	dec := jsontext.NewDecoder(bytes.NewReader(raw))
	if start, _ := dec.ReadToken(); start.Kind() != '{' && start.Kind() != '[' {
		return n
	}
	for k := dec.PeekKind(); k > 0 && k != '}' && k != ']'; k = dec.PeekKind() {
		name := strconv.Itoa(len(n.Nodes))
		if raw.Kind() == '{' {
			token, _ := dec.ReadToken()
			name = token.String()
		}
		value, _ := dec.ReadValue()
		n.Nodes = append(n.Nodes, parse(name, value.Clone()))
	}
	return n
}

// Get returns the node at the end of a path of member names, or nil. It follows every $ref.
func (n *node) Get(path ...string) *node {
	if n == nil || len(path) == 0 {
		return n
	}
	if i := slices.IndexFunc(n.Nodes, func(m *node) bool { return m.Name == path[0] }); i >= 0 {
		return n.Nodes[i].Get(path[1:]...)
	}
	if path[0] == "$ref" || n.Get("$ref") == nil {
		return nil
	}
	return root.Get(strings.Split(n.Get("$ref").String(), "/")[1:]...).Get(path...)
}

// Each returns the members of the object or array at the end of a path of member names.
func (n *node) Each(path ...string) []*node {
	if n = n.Get(path...); n == nil {
		return nil
	}
	return n.Nodes
}

// First follows the names in path and returns the first member of the object or array found there, or nil.
func (n *node) First(path ...string) *node {
	return append(n.Each(path...), nil)[0]
}

// Ref returns the last part of n's $ref, such as Session in #/components/schemas/Session.
func (n *node) Ref() string {
	ref := n.Get("$ref").String()
	return ref[strings.LastIndexByte(ref, '/')+1:]
}

// String returns the text of a JSON string, and any other value as JSON.
func (n *node) String() string {
	if n == nil {
		return ""
	}
	if text, err := jsontext.AppendUnquote(nil, n.raw); err == nil {
		return string(text)
	}
	return string(n.raw)
}

// JSON returns n as JSON. A value that is longer than 50 bytes is indented over several lines.
func (n *node) JSON() (string, error) {
	v := n.raw.Clone()
	err := v.Format(jsontext.SpaceAfterColon(true), jsontext.SpaceAfterComma(true))
	if len(v) > 50 {
		err = v.Indent(jsontext.WithIndent("  "))
	}
	return string(v), err
}

// Between describes the minimum and maximum of a schema in words, such as "at least 8 characters".
func (n *node) Between(minimum, maximum, unit string) string {
	low, high := n.Get(minimum).String(), n.Get(maximum).String()
	switch {
	case low+high == "":
		return ""
	case low == "":
		return "at most " + high + unit
	case high == "":
		return "at least " + low + unit
	case low != high:
		low += "–" + high
	}
	return low + unit
}

// url returns an operation's path and query string with the example values of all parameters.
func url(path string, operation *node) string {
	separator := "?"
	for _, p := range operation.Each("parameters") {
		name, example := p.Get("name").String(), p.Get("example").String()
		if p.Get("in").String() == "path" {
			path = strings.ReplaceAll(path, "{"+name+"}", example)
		} else if example != "" {
			path += separator + name + "=" + example
			separator = "&"
		}
	}
	return path
}

// Shapes returns the schemas of the objects in responses, but not the schemas of request bodies.
func (n *node) Shapes() []*node {
	var bodies []string
	for _, path := range n.Each("paths") {
		for _, op := range path.Nodes {
			bodies = append(bodies, op.First("requestBody", "content").Get("schema").Ref())
		}
	}
	return slices.DeleteFunc(slices.Clone(n.Each("components", "schemas")), func(s *node) bool {
		return s.Get("properties") == nil || slices.Contains(bodies, s.Name)
	})
}

// quote returns s in single quotes for a shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
