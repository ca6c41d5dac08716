//go:build production

package sqlstore

import "errors"

// openSQLite replaces the function in sqlite.go.
func openSQLite(string, Options) (*DB, error) {
	return nil, errors.New("sqlstore: this program is built for production and has no SQLite")
}
