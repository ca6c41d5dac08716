// Package app is the program sessiond: it runs the verbs, such as serve and migrate, reads the
// settings, and connects the other packages. Command sessiond only calls [Run].
package app
