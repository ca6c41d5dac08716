package api

import (
	_ "embed" // the document
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

//go:embed openapi.json
var openAPIDocument []byte

// openAPIJSON returns the OpenAPI 3.1 document that is served. Callers leave
// its bytes as they are.
func openAPIJSON() []byte { return openAPIDocument }

// What is read of an OpenAPI document.
type (
	openAPIDoc struct {
		Info struct {
			Title       string `json:"title"`
			Version     string `json:"version"`
			Summary     string `json:"summary"`
			Description string `json:"description"`
		} `json:"info"`
		Tags []struct {
			Name        string `json:"name"`
			Title       string `json:"x-displayName"`
			Description string `json:"description"`
		} `json:"tags"`
		Servers    []openAPIServer      `json:"servers"`
		Paths      members[openAPIPath] `json:"paths"`
		Components struct {
			Parameters members[openAPIParameter] `json:"parameters"`
			Responses  members[openAPIResponse]  `json:"responses"`
			Schemas    members[openAPISchema]    `json:"schemas"`
		} `json:"components"`
	}
	openAPIServer struct {
		URL string `json:"url"`
	}
	openAPIPath struct {
		Servers []openAPIServer   `json:"servers"`
		Get     *openAPIOperation `json:"get"`
		Post    *openAPIOperation `json:"post"`
		Put     *openAPIOperation `json:"put"`
		Patch   *openAPIOperation `json:"patch"`
		Delete  *openAPIOperation `json:"delete"`
	}
	openAPIOperation struct {
		ID          string             `json:"operationId"`
		Tags        []string           `json:"tags"`
		Summary     string             `json:"summary"`
		Description string             `json:"description"`
		Security    *[]jsontext.Value  `json:"security"` // nil: the document's, the bearer token
		Parameters  []openAPIParameter `json:"parameters"`
		RequestBody *struct {
			Content members[openAPIMedia] `json:"content"`
		} `json:"requestBody"`
		Responses members[openAPIResponse] `json:"responses"`
	}
	openAPIParameter struct {
		Ref         string         `json:"$ref"`
		Name        string         `json:"name"`
		In          string         `json:"in"`
		Description string         `json:"description"`
		Required    bool           `json:"required"`
		Schema      openAPISchema  `json:"schema"`
		Example     jsontext.Value `json:"example"`
	}
	openAPIResponse struct {
		Ref         string                  `json:"$ref"`
		Description string                  `json:"description"`
		Headers     members[jsontext.Value] `json:"headers"`
		Content     members[openAPIMedia]   `json:"content"`
	}
	openAPIMedia struct {
		Schema  openAPISchema  `json:"schema"`
		Example jsontext.Value `json:"example"`
	}
	openAPISchema struct {
		Ref         string                 `json:"$ref"`
		Type        openAPIType            `json:"type"`
		Format      string                 `json:"format"`
		Description string                 `json:"description"`
		Properties  members[openAPISchema] `json:"properties"`
		Required    []string               `json:"required"`
		Items       *openAPISchema         `json:"items"`
		OneOf       []openAPISchema        `json:"oneOf"`
		Const       jsontext.Value         `json:"const"`
		Enum        []jsontext.Value       `json:"enum"`
		Default     jsontext.Value         `json:"default"`
		MinLength   *int                   `json:"minLength"`
		MaxLength   *int                   `json:"maxLength"`
		MinBytes    *int                   `json:"x-min-bytes"`
		MaxBytes    *int                   `json:"x-max-bytes"`
		Minimum     *int                   `json:"minimum"`
		Maximum     *int                   `json:"maximum"`
	}
)

type openAPIMethod struct {
	name string
	op   *openAPIOperation
}

func (p *openAPIPath) methods() []openAPIMethod {
	all := []openAPIMethod{{"POST", p.Post}, {"GET", p.Get}, {"PUT", p.Put}, {"PATCH", p.Patch}, {"DELETE", p.Delete}}
	return slices.DeleteFunc(all, func(m openAPIMethod) bool { return m.op == nil })
}

// openAPIType is "string" or ["string", "null"].
type openAPIType []string

func (t *openAPIType) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	if dec.PeekKind() == '[' {
		return json.UnmarshalDecode(dec, (*[]string)(t))
	}
	*t = make(openAPIType, 1)
	return json.UnmarshalDecode(dec, &(*t)[0])
}

// members is a JSON object whose order is kept.
type members[T any] []member[T]

type member[T any] struct {
	Name  string
	Value T
}

func (m *members[T]) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	if _, err := dec.ReadToken(); err != nil {
		return err
	}
	for dec.PeekKind() != '}' {
		var one member[T]
		if err := json.UnmarshalDecode(dec, &one.Name); err != nil {
			return err
		}
		if err := json.UnmarshalDecode(dec, &one.Value); err != nil {
			return err
		}
		*m = append(*m, one)
	}
	_, err := dec.ReadToken()
	return err
}

// resolve follows ref into one list of the document's components. Without a
// ref it returns own.
func resolve[T any](in members[T], ref string, own T) (T, error) {
	if ref == "" {
		return own, nil
	}
	for _, m := range in {
		if m.Name == refName(ref) {
			return m.Value, nil
		}
	}
	return own, fmt.Errorf("%s leads nowhere", strconv.Quote(ref))
}

func refName(ref string) string { return ref[strings.LastIndexByte(ref, '/')+1:] }
