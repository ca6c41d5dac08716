package api

import (
	"bytes"
	_ "embed" // the template
	"fmt"
	"html/template"
	"slices"
	"strings"
	"sync"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

//go:embed docs.tmpl.html
var docsTemplate string

// docsPage returns the page that shows the document to people, and the
// Content-Security-Policy under which it looks as intended: no script, nothing
// from elsewhere, and no style but its own. It is rendered once, when
// first asked for; it panics when the embedded files do not fit together, which
// a test rules out.
var docsPage = sync.OnceValues(func() (html []byte, csp string) {
	html, err := renderDocs(openAPIJSON())
	if err != nil {
		panic(err)
	}
	return html, "default-src 'none'; style-src " + inlineHash(html, "style") + "; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
})

func renderDocs(document []byte) ([]byte, error) {
	var d openAPIDoc
	if err := json.Unmarshal(document, &d); err != nil {
		return nil, fmt.Errorf("api: read openapi.json: %w", err)
	}
	page, err := d.page()
	if err != nil {
		return nil, fmt.Errorf("api: openapi.json: %w", err)
	}
	t, err := template.New("docs").Funcs(template.FuncMap{"spans": spans, "paragraphs": paragraphs}).Parse(docsTemplate)
	if err != nil {
		return nil, fmt.Errorf("api: docs template: %w", err)
	}
	var buf bytes.Buffer
	if err := t.Execute(&buf, page); err != nil {
		return nil, fmt.Errorf("api: render docs: %w", err)
	}
	return slices.Clone(buf.Bytes()), nil // without the buffer's spare room: the page is kept
}

// What the template shows.
type (
	docsView struct {
		Title, Version, Summary, Text string

		Groups  []docsGroup
		General []docsAnswer
		Shapes  []docsShape
	}
	docsGroup struct {
		Name, Title, Text string
		Operations        []docsOperation
	}
	docsOperation struct {
		ID, Method, Path, Summary, Text string

		Protected  bool
		AlsoAt     []string // the path again, under the other servers
		Parameters []docsField
		BodyTypes  []string
		BodyText   string
		Body       []docsField
		Answers    []docsAnswer
		General    []string // statuses that are described once for all routes
		Curl       string
		Reply      string // an example of the first success
		ReplyTo    string // its status
	}
	docsField struct {
		Name, In, Text string

		Required bool
		Type     docsType
		Limits   []string
	}
	// docsType is a type in words, some of which link to a docsShape.
	docsType []docsWord
	docsWord struct {
		Text  string
		Shape bool // Text is the name of a docsShape
	}
	docsAnswer struct {
		Status, Text string

		Type    docsType
		Headers []string
	}
	docsShape struct {
		Name, Text string
		Fields     []docsField
	}
)

// generalAnswers are described once on the page, for all routes that refer to
// them.
var generalAnswers = []generalAnswer{
	{"405", "MethodNotAllowed"},
	{"413", "TooLarge"},
	{"415", "UnsupportedMediaType"},
	{"431", "HeadersTooLarge"},
	{"500", "InternalError"},
	{"503", "Unavailable"},
}

type generalAnswer struct{ status, response string }

func isGeneral(status string) bool {
	return slices.ContainsFunc(generalAnswers, func(g generalAnswer) bool { return g.status == status })
}

func (d *openAPIDoc) page() (docsView, error) {
	v := docsView{Title: d.Info.Title, Version: d.Info.Version, Summary: d.Info.Summary, Text: d.Info.Description}
	groups := make(map[string]*docsGroup, len(d.Tags))
	v.Groups = make([]docsGroup, len(d.Tags))
	for i, t := range d.Tags {
		if t.Title == "" {
			return v, fmt.Errorf("tag %s has no x-displayName", t.Name)
		}
		v.Groups[i] = docsGroup{Name: t.Name, Title: t.Title, Text: t.Description}
		groups[t.Name] = &v.Groups[i]
	}
	for _, p := range d.Paths {
		for _, m := range p.Value.methods() {
			if len(m.op.Tags) != 1 || groups[m.op.Tags[0]] == nil {
				return v, fmt.Errorf("%s %s: wants one tag of the list", m.name, p.Name)
			}
			o, err := d.operation(m.name, p.Name, p.Value, m.op)
			if err != nil {
				return v, fmt.Errorf("%s %s: %w", m.name, p.Name, err)
			}
			g := groups[m.op.Tags[0]]
			g.Operations = append(g.Operations, o)
		}
	}
	for _, g := range generalAnswers {
		a, err := d.answer(g.status, openAPIResponse{Ref: "#/components/responses/" + g.response})
		if err != nil {
			return v, err
		}
		v.General = append(v.General, a)
	}
	return v, d.shapes(&v)
}

// shapes adds the objects that answers are made of.
func (d *openAPIDoc) shapes(v *docsView) error {
	inBody := make(map[string]bool)
	for _, p := range d.Paths {
		for _, m := range p.Value.methods() {
			if m.op.RequestBody == nil {
				continue
			}
			for _, c := range m.op.RequestBody.Content {
				inBody[refName(c.Value.Schema.Ref)] = true
			}
		}
	}
	for _, s := range d.Components.Schemas {
		if len(s.Value.Properties) == 0 || inBody[s.Name] {
			continue
		}
		fields, err := d.fields(s.Value)
		if err != nil {
			return fmt.Errorf("schema %s: %w", s.Name, err)
		}
		v.Shapes = append(v.Shapes, docsShape{Name: s.Name, Text: s.Value.Description, Fields: fields})
	}
	return nil
}

func (d *openAPIDoc) operation(method, path string, item openAPIPath, op *openAPIOperation) (docsOperation, error) {
	v := docsOperation{ID: op.ID, Method: method, Path: path, Summary: op.Summary, Text: op.Description, Protected: op.Security == nil}
	for _, s := range item.Servers {
		if prefix := strings.TrimSuffix(s.URL, "/"); prefix != "" {
			v.AlsoAt = append(v.AlsoAt, prefix+path)
		}
	}
	var parameters []openAPIParameter
	for _, p := range op.Parameters {
		p, err := resolve(d.Components.Parameters, p.Ref, p)
		if err != nil {
			return v, err
		}
		parameters = append(parameters, p)
		f, err := d.field(p.Name, p.Required, p.Schema)
		if err != nil {
			return v, err
		}
		f.In, f.Text = p.In, p.Description
		v.Parameters = append(v.Parameters, f)
	}
	var body *openAPIMedia
	if op.RequestBody != nil {
		for i, c := range op.RequestBody.Content {
			v.BodyTypes = append(v.BodyTypes, c.Name)
			if i > 0 {
				continue
			}
			body = &c.Value
			s, err := d.schema(c.Value.Schema)
			if err != nil {
				return v, err
			}
			v.BodyText = s.Description
			if v.Body, err = d.fields(s); err != nil {
				return v, err
			}
		}
	}
	for _, r := range op.Responses {
		if isGeneral(r.Name) && r.Value.Ref != "" {
			v.General = append(v.General, r.Name)
			continue
		}
		a, err := d.answer(r.Name, r.Value)
		if err != nil {
			return v, err
		}
		v.Answers = append(v.Answers, a)
		if v.ReplyTo == "" && r.Name < "300" {
			v.ReplyTo = r.Name
			if v.Reply, err = replyExample(r.Value); err != nil {
				return v, err
			}
		}
	}
	var err error
	v.Curl, err = curl(method, path, parameters, v.Protected, v.BodyTypes, body)
	return v, err
}

func (d *openAPIDoc) answer(status string, r openAPIResponse) (docsAnswer, error) {
	r, err := resolve(d.Components.Responses, r.Ref, r)
	if err != nil {
		return docsAnswer{}, err
	}
	a := docsAnswer{Status: status, Text: r.Description}
	for _, h := range r.Headers {
		a.Headers = append(a.Headers, h.Name)
	}
	if len(r.Content) > 0 {
		a.Type, err = d.typeOf(r.Content[0].Value.Schema)
	}
	return a, err
}

func (d *openAPIDoc) fields(s openAPISchema) ([]docsField, error) {
	fields := make([]docsField, 0, len(s.Properties))
	for _, p := range s.Properties {
		f, err := d.field(p.Name, slices.Contains(s.Required, p.Name), p.Value)
		if err != nil {
			return nil, err
		}
		fields = append(fields, f)
	}
	return fields, nil
}

func (d *openAPIDoc) field(name string, required bool, s openAPISchema) (docsField, error) {
	t, err := d.typeOf(s)
	if err != nil {
		return docsField{}, err
	}
	full, err := d.schema(s)
	if err != nil {
		return docsField{}, err
	}
	f := docsField{Name: name, Required: required, Type: t, Limits: full.limits(), Text: full.Description}
	if len(full.Properties) > 0 && s.Description == "" {
		f.Text = "" // the shape says it itself
	}
	return f, nil
}

func (d *openAPIDoc) typeOf(s openAPISchema) (docsType, error) {
	full, err := d.schema(s)
	if err != nil {
		return nil, err
	}
	switch {
	case len(full.Properties) > 0 && s.Ref != "":
		return docsType{{Text: refName(s.Ref), Shape: true}}, nil
	case len(full.OneOf) > 0:
		var words docsType
		for i, one := range full.OneOf {
			t, err := d.typeOf(one)
			if err != nil {
				return nil, err
			}
			if i > 0 {
				words = append(words, docsWord{Text: " or "})
			}
			words = append(words, t...)
		}
		return words, nil
	case full.Items != nil:
		t, err := d.typeOf(*full.Items)
		return append(docsType{{Text: "array of "}}, t...), err
	case len(full.Const) > 0:
		return docsType{{Text: "always " + string(full.Const)}}, nil
	}
	text := strings.Join(full.Type, " or ")
	if full.Format != "" && full.Format != "password" {
		text += " · " + full.Format
	}
	return docsType{{Text: text}}, nil
}

// schema follows a reference; what stands beside it comes first.
func (d *openAPIDoc) schema(s openAPISchema) (openAPISchema, error) {
	full, err := resolve(d.Components.Schemas, s.Ref, s)
	if s.Description != "" {
		full.Description = s.Description
	}
	return full, err
}

// limits says the bounds of a value as people do.
func (s *openAPISchema) limits() []string {
	var out []string
	between := func(low, high *int, unit string) {
		switch {
		case low != nil && high != nil && *low == *high:
			out = append(out, fmt.Sprintf("%d%s", *low, unit))
		case low != nil && high != nil:
			out = append(out, fmt.Sprintf("%d–%d%s", *low, *high, unit))
		case high != nil:
			out = append(out, fmt.Sprintf("at most %d%s", *high, unit))
		case low != nil:
			out = append(out, fmt.Sprintf("at least %d%s", *low, unit))
		}
	}
	if s.MaxBytes != nil {
		between(s.MinBytes, s.MaxBytes, " bytes")
	} else {
		between(s.MinLength, s.MaxLength, " characters")
	}
	between(s.Minimum, s.Maximum, "")
	if s.Default != nil {
		out = append(out, "default "+string(s.Default))
	}
	if len(s.Enum) > 0 {
		values := make([]string, len(s.Enum))
		for i, v := range s.Enum {
			values[i] = strings.Trim(string(v), `"`)
			if values[i] == "" {
				values[i] = "empty"
			}
		}
		out = append(out, strings.Join(values, ", "))
	}
	return out
}

// replyExample is the example of a response; empty when it has none.
func replyExample(r openAPIResponse) (string, error) {
	if len(r.Content) == 0 || r.Content[0].Value.Example == nil {
		return "", nil
	}
	return setJSON(r.Content[0].Value.Example)
}

// maxLine is how many characters of JSON stand on one line.
const maxLine = 50

// setJSON sets a value on one line when it fits, and else on many.
func setJSON(v jsontext.Value) (string, error) {
	v = slices.Clone(v)
	if err := v.Format(jsontext.Multiline(false), jsontext.SpaceAfterColon(true), jsontext.SpaceAfterComma(true)); err != nil {
		return "", fmt.Errorf("example: %w", err)
	}
	if len(v) > maxLine {
		if err := v.Indent(jsontext.WithIndent("  ")); err != nil {
			return "", fmt.Errorf("example: %w", err)
		}
	}
	return string(v), nil
}

// curl is the operation as a command for a shell that knows BASE and TOKEN.
func curl(method, path string, parameters []openAPIParameter, protected bool, types []string, body *openAPIMedia) (string, error) {
	query := make([]string, 0, len(parameters))
	for _, p := range parameters {
		if p.Example == nil {
			continue
		}
		value := strings.Trim(string(p.Example), `"`)
		if p.In == "path" {
			path = strings.ReplaceAll(path, "{"+p.Name+"}", value)
		} else {
			query = append(query, p.Name+"="+value)
		}
	}
	if len(query) > 0 {
		path += "?" + strings.Join(query, "&")
	}
	command := "curl "
	if method != "GET" {
		command += "-X " + method + " "
	}
	lines := []string{command + `"$BASE` + path + `"`}
	if protected {
		lines = append(lines, `-H "Authorization: Bearer $TOKEN"`)
	}
	switch {
	case body == nil:
	case types[0] == mediaJSON:
		data, err := setJSON(body.Example)
		if err != nil {
			return "", err
		}
		lines = append(lines, "-H 'Content-Type: "+mediaJSON+"'", "-d "+shellQuote(data))
	default:
		var form members[string]
		if err := json.Unmarshal(body.Example, &form); err != nil {
			return "", fmt.Errorf("example: %w", err)
		}
		for _, f := range form {
			lines = append(lines, "--data-urlencode "+shellQuote(f.Name+"="+f.Value))
		}
	}
	return strings.Join(lines, " \\\n  "), nil
}

func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// span is a piece of text, or of code when it stood between backquotes.
type span struct {
	Text string
	Code bool
}

func spans(text string) []span {
	var out []span
	for i, part := range strings.Split(text, "`") {
		if part != "" {
			out = append(out, span{Text: part, Code: i%2 == 1})
		}
	}
	return out
}

func paragraphs(text string) []string { return strings.Split(text, "\n\n") }
