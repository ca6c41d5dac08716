package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"testing"
	"time"
)

func TestProxyHoldsOneReplyBack(t *testing.T) {
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := echo.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.Copy(conn, conn)
	}()
	p, err := startProxy(t.Context(), echo.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", p.addr())
	if err != nil {
		t.Fatal(err)
	}
	reply := bufio.NewReader(conn)
	const late = 200 * time.Millisecond
	for i := range 3 {
		if i == 1 {
			p.hold.Store(int64(late))
		}
		begin := time.Now()
		fmt.Fprintf(conn, "%d\n", i)
		line, err := reply.ReadString('\n')
		if err != nil || line != fmt.Sprintf("%d\n", i) {
			t.Fatalf("%q, %v", line, err)
		}
		if took := time.Since(begin); i == 1 && took < late {
			t.Errorf("the reply to hold back came after %v", took)
		}
	}
	if held := p.hold.Load(); held != 0 {
		t.Errorf("another reply would be held back for %v", held)
	}
	if err := p.close(); err != nil {
		t.Error(err)
	}
	if _, err := reply.ReadByte(); err == nil {
		t.Error("closing the proxy leaves connections open")
	}
	conn.Close()
	echo.Close()
	<-done
}
