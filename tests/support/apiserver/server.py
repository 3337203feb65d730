"""One API server and its etcd, as processes of this one."""

import base64
import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.support.apiserver import crds, keys
from tests.support.apiserver.audit import POLICY, Audit
from tests.support.apiserver.binaries import Binaries
from tests.support.apiserver.client import ApiFailure, Client
from tests.support.ports import unused_ports

ISSUER = "https://kubernetes.default.svc"
_PATIENCE = 120.0
_ATTEMPTS = 3  # a port that was free may be somebody else's a moment later
_STRICT_ADMISSION = "ServiceAccount"  # it wants an account and its controller for every Pod
_OWN_LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/apiserver-"


class ApiServer:
    """A cluster's API: RBAC on, CRDs of the kinds peerd reads, an audit log, no controllers, no kubelets.

    Nothing happens by itself: Pods stay as they are written, namespaces go only through `admin.delete`.

    Args:
        root: a directory of its own.
        binaries: what to start.
        flags: further flags of kube-apiserver, for instance `--feature-gates=WatchList=false`.
        with_crds: install the CustomResourceDefinitions.
    """

    def __init__(
        self, root: Path, binaries: Binaries, *, flags: Sequence[str] = (), with_crds: bool = True
    ) -> None:
        self.root = root
        self.port = 0
        self.audit = Audit(root / "audit.log")
        self.admin: Client
        self._binaries = binaries
        self._flags = tuple(flags)
        self._with_crds = with_crds
        self._etcd: subprocess.Popen[bytes] | None = None
        self._api: subprocess.Popen[bytes] | None = None
        self._baseline: frozenset[str] = frozenset()
        self._etcd_url = f"unix://{root}/etcd:0"  # the file `etcd:0`: etcd demands a port
        keys.write(root)
        (root / "audit.yaml").write_text(POLICY)

    # -- life --------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def ca(self) -> Path:
        """File with the CA of its certificate."""
        return self.root / "ca.pem"

    def start(self) -> None:
        """Start both and wait until the API is there; on the same port as before, if it ran before."""
        self._start_etcd()
        for attempt in range(_ATTEMPTS):
            try:
                self._start_api()
                break
            except ChildProcessError:
                if attempt == _ATTEMPTS - 1:
                    raise
                self.port = 0
        if self._with_crds and not self._baseline:
            crds.install(self.admin, crds.wanted(self._binaries.crds))
        if not self._baseline:
            self._baseline = frozenset(path for path, _ in self.admin.everything())

    def stop(self) -> None:
        """SIGKILL to both: nothing of a test is worth waiting for."""
        self.kill()
        _end(self._etcd)
        self._etcd = None

    def kill(self) -> None:
        """SIGKILL to the API server; etcd stays. `start` brings it back on the same port."""
        if self._api is not None:
            self.admin.close()
        _end(self._api)
        self._api = None

    def forget_everything(self) -> None:
        """While it is stopped: an etcd that was lost. Versions begin anew, uids will be other ones."""
        assert self._etcd is None
        shutil.rmtree(self.root / "etcd")
        self._baseline = frozenset()

    def reset(self) -> None:
        """Delete all that was made since the start."""
        made = [
            (path, found)
            for path, found in self.admin.everything()
            if path not in self._baseline and not path.startswith(_OWN_LEASES)
        ]
        made.sort(key=lambda each: _is_namespace(each[0]))  # when they are empty
        for path, found in made:
            self.admin.delete_path(path)
            if _is_namespace(path):
                self.admin.finalize({"apiVersion": "v1", "kind": "Namespace", "metadata": found["metadata"]})

    def _start_etcd(self) -> None:
        if self._etcd is not None and self._etcd.poll() is None:
            return
        nobody = "http://127.0.0.1:0"  # it has no other members, and nobody asks where it is
        flags = {
            "data-dir": f"{self.root}/etcd",
            "listen-client-urls": self._etcd_url,
            "advertise-client-urls": nobody,
            "listen-peer-urls": nobody,
            "log-level": "error",
            "quota-backend-bytes": str(4 << 30),
        }
        self._etcd = self._run(self._binaries.etcd, flags, "etcd.log", "--unsafe-no-fsync")

    def _start_api(self) -> None:
        self.port = self.port or unused_ports(1)[0]
        flags = {
            "etcd-servers": self._etcd_url,
            "bind-address": "127.0.0.1",
            "secure-port": str(self.port),
            "tls-cert-file": f"{self.root}/server.pem",
            "tls-private-key-file": f"{self.root}/server.key",
            "client-ca-file": f"{self.root}/ca.pem",
            "authorization-mode": "RBAC",
            "service-account-issuer": ISSUER,
            "service-account-key-file": f"{self.root}/accounts.key",
            "service-account-signing-key-file": f"{self.root}/accounts.key",
            "service-cluster-ip-range": "10.96.0.0/12,fd00:96::/108",
            "disable-admission-plugins": _STRICT_ADMISSION,
            "endpoint-reconciler-type": "none",
            "allow-privileged": "true",
            "audit-policy-file": f"{self.root}/audit.yaml",
            "audit-log-path": f"{self.root}/audit.log",
            "audit-log-format": "json",
        }
        self._api = self._run(self._binaries.kube_apiserver, flags, "kube-apiserver.log", *self._flags)
        self.admin = Client(
            self.port, self.ca, certificate=self.root / "admin.pem", key=self.root / "admin.key"
        )
        end = time.monotonic() + _PATIENCE
        while not self._is_ready():
            if self._api.poll() is not None:
                raise ChildProcessError(f"kube-apiserver ended: {self._log_end('kube-apiserver.log')}")
            if self._etcd is None or self._etcd.poll() is not None:
                raise RuntimeError(f"etcd ended: {self._log_end('etcd.log')}")
            if time.monotonic() > end:
                raise TimeoutError(f"kube-apiserver is not ready: {self._log_end('kube-apiserver.log')}")
            time.sleep(0.05)

    def _is_ready(self) -> bool:
        try:
            self.admin.request("GET", "/readyz")
        except (OSError, ApiFailure):
            return False
        return True

    def _run(
        self, command: Sequence[str], flags: Mapping[str, str], log: str, *more: str
    ) -> subprocess.Popen[bytes]:
        with (self.root / log).open("ab") as output:
            return subprocess.Popen(
                [*command, *(f"--{name}={value}" for name, value in flags.items()), *more],
                stdin=subprocess.PIPE,  # held open: it ends with this process (main.go)
                stdout=output,
                stderr=output,
                env={**os.environ, "EXIT_WITH_STDIN": "1"},
                start_new_session=True,  # not by the terminal's Ctrl-C, before tests have cleaned up
            )

    def _log_end(self, log: str) -> str:
        return (self.root / log).read_text(errors="replace")[-3000:]

    # -- users -------------------------------------------------------------------------------------------

    def token(
        self,
        namespace: str,
        account: str,
        *,
        audiences: Sequence[str] = (),
        pod: Mapping[str, Any] | None = None,
        seconds: int = 3600,
    ) -> str:
        """A real token of a ServiceAccount, which is made if it is not there (TokenRequest).

        Args:
            namespace, account: whose; the namespace must exist.
            audiences: default: the API server itself.
            pod: the created Pod to which the token is bound; a TokenReview tells its name and uid.
            seconds: until it expires; the API server takes no less than 600.
        """
        manifest = {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"namespace": namespace, "name": account},
        }
        if self.admin.get(manifest) is None:
            self.admin.create(manifest)
        spec: dict[str, Any] = {"expirationSeconds": seconds, "audiences": list(audiences) or [ISSUER]}
        if pod is not None:
            metadata = pod["metadata"]
            spec["boundObjectRef"] = {
                "apiVersion": "v1",
                "kind": "Pod",
                "name": metadata["name"],
                "uid": metadata["uid"],
            }
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        answer = self.admin.request("POST", self.admin.path(manifest, subresource="token"), request)
        return str(answer["status"]["token"])

    def client(self, token: str = "") -> Client:
        """A client with *token*, or without any credential."""
        return Client(self.port, self.ca, token=token)

    def kubeconfig(self, token: str = "", *, name: str = "") -> Path:
        """A kubeconfig file: of the admin (client certificate), or with *token*, written as *name*."""
        user: dict[str, str] = (
            {"token": token}
            if token
            else {
                "client-certificate-data": _data(self.root / "admin.pem"),
                "client-key-data": _data(self.root / "admin.key"),
            }
        )
        tree = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "test",
                    "cluster": {"server": self.url, "certificate-authority-data": _data(self.ca)},
                }
            ],
            "users": [{"name": "user", "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "user"}}],
            "current-context": "test",
        }
        path = self.root / f"{name or ('token' if token else 'admin')}.kubeconfig"
        path.write_text(yaml.safe_dump(tree))
        path.chmod(0o600)
        return path


def _is_namespace(path: str) -> bool:
    return path.startswith("/api/v1/namespaces/") and path.count("/") == 4


def _data(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def _end(process: subprocess.Popen[bytes] | None) -> None:
    if process is None:
        return
    process.kill()
    process.wait()
    if process.stdin is not None:
        process.stdin.close()
