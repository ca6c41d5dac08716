package api

import (
	"encoding/base64"
	"fmt"
	"strconv"

	"github.com/sessiond/sessiond/session/issuer"
)

const (
	defaultLimit = 50
	maxLimit     = 100
)

type pageInput struct {
	Limit  *string `json:"limit"`
	Cursor *string `json:"cursor"`
}

// paged returns a handler that reads the query parameters "limit" and "cursor" and calls h. It asks
// h for one item more than the client wants, to find out whether there is a next page.
func paged(h func(*request, issuer.Page) (reply, error)) handler {
	return queryParams(func(q *request, in pageInput) (reply, error) {
		p, err := in.page()
		if err != nil {
			return reply{}, err
		}
		p.Limit++
		return h(q, p)
	})
}

// size returns the number of items that the client wants.
func (in *pageInput) size() (int, error) {
	if in.Limit == nil {
		return defaultLimit, nil
	}
	n, err := strconv.ParseUint(*in.Limit, 10, 31)
	if err != nil || n < 1 || n > maxLimit {
		return 0, fieldError("limit", "out_of_range", fmt.Sprintf("must be a number from 1 to %d", maxLimit))
	}
	return int(n), nil
}

// page returns the page that the client wants, in a list whose cursors hold an id.
func (in *pageInput) page() (p issuer.Page, err error) {
	if p.Limit, err = in.size(); err != nil || in.Cursor == nil {
		return p, err
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(*in.Cursor)
	if err != nil || !issuer.ValidID(string(raw)) {
		return p, errCursor
	}
	p.Before = string(raw)
	return p, nil
}

var errCursor = fieldError("cursor", "invalid", "is not a cursor of this service")

// list is the body of a reply that holds one page of a list.
type list[T any] struct {
	Items      []T     `json:"items"`
	NextCursor *string `json:"next_cursor"`
}

// listOf returns the reply with the items that a store found for page p. It calls `id` to get the
// id of an item, and `show` to get the item as the client sees it.
func listOf[S, T any](found []S, p issuer.Page, id func(*S) string, show func(*S) T) list[T] {
	var out list[T]
	if want := p.Limit - 1; len(found) > want {
		found = found[:want]
		cursor := base64.RawURLEncoding.EncodeToString([]byte(id(&found[want-1])))
		out.NextCursor = &cursor
	}
	out.Items = make([]T, len(found))
	for i := range found {
		out.Items[i] = show(&found[i])
	}
	return out
}
