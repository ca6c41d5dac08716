package api

import (
	"context"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"testing"

	"github.com/sessiond/sessiond/identity"
)

// setStrings sets every string field of the struct that p points to. Each value is the field's
// name.
func setStrings(p any) {
	v := reflect.ValueOf(p).Elem()
	for i := range v.NumField() {
		if v.Field(i).Kind() == reflect.String {
			v.Field(i).SetString(v.Type().Field(i).Name)
		}
	}
}

func TestNewUserInput_SetsEveryFieldOfNewUser(t *testing.T) {
	var in newUserInput
	setStrings(&in)
	r := httptest.NewRequest("POST", "/v1/users", nil)
	r = r.WithContext(context.WithValue(r.Context(), logEntryKey{}, &logEntry{clientIP: netip.IPv6Loopback()}))
	user := in.user(&request{Request: r})
	v := reflect.ValueOf(user)
	for i := range v.NumField() {
		if name := v.Type().Field(i).Name; v.Field(i).IsZero() {
			t.Errorf("newUserInput.user does not set the field %s of identity.NewUser", name)
		}
	}
}

func TestProfileInput_SetsEveryFieldOfProfile(t *testing.T) {
	var in profileInput
	fields := reflect.ValueOf(&in).Elem()
	for i := range fields.NumField() {
		fields.Field(i).Set(reflect.ValueOf(new(string)))
	}
	v := reflect.ValueOf(in.profile())
	for i := range v.NumField() {
		if name := v.Type().Field(i).Name; v.Field(i).IsNil() {
			t.Errorf("profileInput.profile does not set the field %s of identity.Profile", name)
		}
	}
}

func TestShowProfile_ShowsEveryUpdatableField(t *testing.T) {
	var user identity.User
	setStrings(&user)
	shown := reflect.ValueOf(showProfile(user))
	updated := reflect.TypeFor[identity.Profile]()
	for i := range updated.NumField() {
		name := updated.Field(i).Name
		if f := shown.FieldByName(name); !f.IsValid() || f.String() != name {
			t.Errorf("showProfile does not show the field %s of identity.Profile", name)
		}
	}
}
