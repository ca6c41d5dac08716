// Package identity knows who the users are: their names, passwords, password
// resets and mail. It does not know what a session is; where changing a
// password or deleting an account ends sessions, its [Store] does both in one
// transaction and hands back the number of the revocation that is then put in
// force.
package identity
