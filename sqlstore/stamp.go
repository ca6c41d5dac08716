package sqlstore

import (
	"database/sql/driver"
	"fmt"
	"time"
)

// stamp is a time in the database: UTC, to the microsecond, and NULL when zero.
//
// SQLite keeps it as text in sqliteTime. That sorts as the times do although
// trailing zeros are dropped: where one text ends early the other goes on with
// a point or a digit, and the "+" of its zone sorts before both.
type stamp struct{ time.Time }

const sqliteTime = "2006-01-02 15:04:05.999999999-07:00" // the driver's _time_format=sqlite

func at(t time.Time) stamp { return stamp{micros(t)} }

func micros(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Microsecond)
}

// Value implements [driver.Valuer].
func (s stamp) Value() (driver.Value, error) {
	if s.IsZero() {
		return nil, nil
	}
	return s.Time, nil
}

// Scan implements [database/sql.Scanner].
func (s *stamp) Scan(src any) error {
	switch v := src.(type) {
	case nil:
		s.Time = time.Time{}
	case time.Time:
		s.Time = v.UTC()
	case string:
		t, err := time.Parse(sqliteTime, v)
		if err != nil {
			return fmt.Errorf("read a time: %w", err)
		}
		s.Time = t.UTC()
	default:
		return fmt.Errorf("read a time: got a %T", src)
	}
	return nil
}
