//go:build linux

package servers

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"runtime/pprof"
	"strings"
	"time"
)

// Run serves a server in this process until in ends, since that is how its
// parent process ends it. It writes its address to out as the first line. The
// lines of in are commands: "profile FILE" begins a CPU profile, and "stop"
// ends it. Each of them is answered with a line.
func Run(ctx context.Context, p Server, withTLS bool, in io.Reader, out io.Writer) error {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	addr := ln.Addr()
	if withTLS {
		cert, err := selfSigned()
		if err != nil {
			return err
		}
		ln = tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13})
	}
	failed := make(chan error, 1) // so that the goroutine ends
	go func() { failed <- p.Serve(ln) }()
	if _, err := fmt.Fprintln(out, addr); err != nil {
		return err
	}
	ended := make(chan error, 1) // so that the goroutine ends
	go func() { ended <- obey(in, out) }()
	select {
	case err := <-failed:
		return err
	case err := <-ended:
		return err
	}
}

// obey carries out the commands of in until it ends.
func obey(in io.Reader, out io.Writer) error {
	var file *os.File
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		cmd, arg, _ := strings.Cut(lines.Text(), " ")
		var err error
		switch cmd {
		case "profile":
			if file, err = os.Create(arg); err == nil { //nolint:gosec // from the parent process
				err = pprof.StartCPUProfile(file)
			}
		case "stop":
			pprof.StopCPUProfile()
			err = file.Close()
		}
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintln(out, "ok"); err != nil {
			return err
		}
	}
	return lines.Err()
}

func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotAfter:     time.Now().Add(24 * time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
