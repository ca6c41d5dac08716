package session_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"

	"github.com/sessiond/sessiond/redisstore"
	"github.com/sessiond/sessiond/session"
)

// A service that verifies sessiond's tokens in its own process needs sessiond's Redis and public
// keys, and the id and secret of an OAuth client. The command 'sessiond clients add' makes these.
func ExampleVerifier_Middleware() {
	ctx := context.Background()
	epochs, err := session.FetchEpochs(ctx, "https://id.example.com/.well-known/sessiond-epochs", session.RemoteOptions{})
	if err != nil {
		log.Fatal(err)
	}
	store, err := redisstore.Open("rediss://:password@redis.example.com", redisstore.Options{Epochs: epochs})
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	keys, err := session.FetchKeys(ctx, "https://id.example.com/.well-known/jwks.json", session.RemoteOptions{})
	if err != nil {
		log.Fatal(err)
	}
	introspection, err := session.NewIntrospection("https://id.example.com/oauth/introspect",
		"orders", os.Getenv("CLIENT_SECRET"), session.RemoteOptions{})
	if err != nil {
		log.Fatal(err)
	}
	verifier := &session.Verifier{
		Keys: keys, Issuer: "https://id.example.com", Audience: "https://id.example.com",
		Store: store, Fallback: introspection, Signatures: session.NewSignatureCache(100_000),
	}

	mux := http.NewServeMux()
	mux.HandleFunc("GET /orders", func(w http.ResponseWriter, r *http.Request) {
		claims, _ := session.ClaimsFrom(r.Context())
		fmt.Fprintf(w, "the orders of %s\n", claims.Subject)
	})
	log.Fatal(http.ListenAndServe(":8081", verifier.Middleware(mux)))
}

// To test a handler behind the middleware, pass claims instead of a token.
func ExampleWithClaims() {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		claims, _ := session.ClaimsFrom(r.Context())
		fmt.Fprintf(w, "hello %s", claims.Username)
	})
	r := httptest.NewRequest("GET", "/", nil)
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r.WithContext(session.WithClaims(r.Context(), session.Claims{Username: "ada"})))
	fmt.Println(w.Body)
	// Output: hello ada
}
