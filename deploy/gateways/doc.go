// Package gateways contains configuration files for gateways that let sessiond check
// every request. Its only code is the tests, which run these files with the real
// gateway programs. README.md explains how to use the files.
package gateways
