package load

import (
	"context"
	"errors"
	"fmt"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
)

// gatewayConns is the number of connections of a Gateway. Envoy has one for each of its threads.
const gatewayConns = 2

// Gateway asks by gRPC, as Envoy's filter ext_authz does.
type Gateway []*grpc.ClientConn

// DialExtAuthz opens the connections of a gateway. They connect when the first question is asked.
func DialExtAuthz(addr string) (g Gateway, err error) {
	for range gatewayConns {
		conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return g, fmt.Errorf("connect to a measured server: %w", err)
		}
		g = append(g, conn)
	}
	return g, nil
}

// Close closes the connections.
func (g Gateway) Close() (err error) {
	for _, conn := range g {
		err = errors.Join(err, conn.Close())
	}
	return err
}

// Ask is a function for Drive.
func (g Gateway) Ask(ctx context.Context, caller int, r *Request) error {
	answer, err := authv3.NewAuthorizationClient(g[caller%len(g)]).Check(ctx, &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Method: "GET", Path: "/", Host: "sessionbench", Headers: map[string]string{"authorization": "Bearer " + r.Token},
		}},
	}})
	if err != nil {
		return fmt.Errorf("ask by gRPC: %w", err)
	}
	want := codes.OK
	if r.Revoked {
		want = codes.Unauthenticated
	}
	if got := codes.Code(answer.GetStatus().GetCode()); got != want { //nolint:gosec // G115: a code is a small number
		return fmt.Errorf("%w: %v, want %v", ErrWrong, got, want)
	}
	if r.Revoked {
		return nil
	}
	for _, h := range answer.GetOkResponse().GetHeaders() {
		if h.GetHeader().GetKey() == "x-auth-session" && h.GetHeader().GetValue() == r.Session {
			return nil
		}
	}
	return fmt.Errorf("%w: no header names the session %q", ErrWrong, r.Session)
}
