// Package audit records who did what. The stores record an event for each act. The events form a chain, so
// that nobody can change or remove one without a trace.
package audit
