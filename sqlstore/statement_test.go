package sqlstore

import (
	"slices"
	"testing"
	"time"

	"github.com/sessiond/sessiond/identity"
)

func TestStatement_BindsNamedParameters(t *testing.T) {
	s := newStatement(`UPDATE users SET first_name = :first_name, updated_at = :updated_at::timestamptz WHERE id = :id OR username=:username_key FOR UPDATE`)
	if want := `UPDATE users SET first_name = $1, updated_at = $2::timestamptz WHERE id = $3 OR username=$4 FOR UPDATE`; s.postgres != want {
		t.Errorf("on Postgres the statement is %q, want %q", s.postgres, want)
	}
	if want := `UPDATE users SET first_name = ?, updated_at = ? WHERE id = ? OR username=?`; s.sqlite != want {
		t.Errorf("on SQLite the statement is %q, want %q", s.sqlite, want)
	}
	row := withKeys(identity.User{ID: "u1", FirstName: "Ada", Username: "ADA", UpdatedAt: time.Unix(1, 0)})
	want := []any{"Ada", at(time.Unix(1, 0)), "u1", "ada"}
	if got := s.bind([]any{row}); !slices.Equal(got, want) {
		t.Errorf("the parameters are %v, want %v", got, want)
	}
}

func TestStatement_BindsPositionalParametersInOrder(t *testing.T) {
	s := newStatement(`SELECT ?::timestamptz, id FROM users WHERE id = ? FOR SHARE`)
	if want := `SELECT $1::timestamptz, id FROM users WHERE id = $2 FOR SHARE`; s.postgres != want {
		t.Errorf("on Postgres the statement is %q, want %q", s.postgres, want)
	}
	if args := []any{1, "u1"}; !slices.Equal(s.bind(args), args) {
		t.Errorf("the parameters are %v, want %v", s.bind(args), args)
	}
}
