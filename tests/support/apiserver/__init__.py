"""A real kube-apiserver with etcd for tests, started in seconds on a port the OS chose.

`make apiserver` builds both once (build.py); envtest's `KUBEBUILDER_ASSETS` is taken where it is set.
Fixtures are in tests/conftest.py; where nothing can be started, tests that use them are skipped with one
line, or fail if `PEERD_TEST_EVERYTHING` is set, as in CI.

    def test_x(api_server: ApiServer) -> None:          # shared by all tests of a process, emptied for each
        made = api_server.admin.create(manifest)        # a whole object; its status through the subresource
        api_server.kubeconfig()                         # path: the admin's
        token = api_server.token("istio-system", "peerd")          # a real ServiceAccount token
        api_server.kubeconfig(token, name="peerd")      # path: exactly that account's rights (RBAC is on)
        api_server.token("ns", "sa", audiences=["istio-ca"], pod=made)   # bound to a Pod, as a ztunnel's
        mark = api_server.audit.mark()
        api_server.audit.requests("system:serviceaccount:istio-system:peerd", since=mark)   # who did what

    def test_y(two_api_servers) -> None: ...            # east and west, shared and emptied in the same way
    def test_z(new_api_server) -> None:                 # a factory of servers of the test's own:
        server = new_api_server(flags=["--feature-gates=WatchList=false"], with_crds=False)
        server.kill(); server.start()                   # the same port, the same objects
        server.stop(); server.forget_everything(); server.start()       # an emptied etcd

There are no controllers and no kubelets: a Pod gets its IP by `admin.set_status`, a namespace's deletion is
finished by `admin.delete`, no `default` ServiceAccount or `kube-root-ca.crt` appears. Of the kinds in
peerd/model/kube/kinds.py all CRDs are installed; the Gateway API's and Istio's own validation applies.
"""

from tests.support.apiserver.audit import Request
from tests.support.apiserver.binaries import MissingError, find
from tests.support.apiserver.client import ApiFailure, Client
from tests.support.apiserver.server import ApiServer

__all__ = ["ApiFailure", "ApiServer", "Client", "MissingError", "Request", "find"]
