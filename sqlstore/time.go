package sqlstore

import (
	"database/sql/driver"
	"fmt"
	"time"
)

// timestamp is a time in the database: UTC, to the microsecond, and NULL if the time is zero.
//
// SQLite stores a timestamp as text in the form sqliteTime. The texts sort like the times, although
// the fraction of a second has no trailing zeros: a shorter fraction is followed by the "+" of the
// zone, which sorts before "." and digits.
type timestamp struct{ time.Time }

const sqliteTime = "2006-01-02 15:04:05.999999999-07:00" // the layout that the SQLite driver uses for _time_format=sqlite

func at(t time.Time) timestamp { return timestamp{micros(t)} }

func micros(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Microsecond)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// Value implements [driver.Valuer].
func (t timestamp) Value() (driver.Value, error) {
	if t.IsZero() {
		return nil, nil
	}
	return t.Time, nil
}

// Scan implements [database/sql.Scanner].
func (t *timestamp) Scan(src any) error {
	switch v := src.(type) {
	case nil:
		t.Time = time.Time{}
	case time.Time:
		t.Time = v.UTC()
	case string:
		parsed, err := time.Parse(sqliteTime, v)
		if err != nil {
			return fmt.Errorf("parse a timestamp of the database: %w", err)
		}
		t.Time = parsed.UTC()
	default:
		return fmt.Errorf("a timestamp of the database must be a time or text, got %T", src)
	}
	return nil
}
