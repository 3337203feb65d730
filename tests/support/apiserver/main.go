// A Kubernetes API server and its etcd for tests, in one program: `apiserver etcd` takes etcd's flags,
// `apiserver kube-apiserver` those of kube-apiserver. Both are the released modules, unchanged.
package main

import (
	"fmt"
	"io"
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() {
	if len(os.Args) < 2 {
		fail()
	}
	if os.Getenv("EXIT_WITH_STDIN") != "" {
		go exitWithStdin()
	}
	switch os.Args[1] {
	case "etcd":
		etcdmain.Main(os.Args[1:])
	case "kube-apiserver":
		os.Args = os.Args[1:]
		os.Exit(cli.Run(app.NewAPIServerCommand()))
	default:
		fail()
	}
}

// exitWithStdin ends this process when whoever holds the other end is gone, however that came.
func exitWithStdin() {
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(1)
}

func fail() {
	fmt.Fprintln(os.Stderr, "usage: apiserver etcd|kube-apiserver [flags]")
	os.Exit(2)
}
