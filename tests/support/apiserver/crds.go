// Keeps the modules that lend their CustomResourceDefinitions (build.py) in go.mod and go.sum.
package main

import (
	_ "istio.io/api/label"
	_ "sigs.k8s.io/gateway-api/pkg/consts"
)
