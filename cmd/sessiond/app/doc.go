// Package app is the sessiond program: its verbs, its settings, and the wiring of the packages
// that it is made of. Command sessiond only starts it.
package app
