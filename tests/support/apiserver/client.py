"""A plain client for tests: whole manifests, one connection, no cache.

Calls block for a few milliseconds. It is deliberately not what peerd uses: neither vouches for the other.
"""

import http.client
import json
import ssl
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Manifest = Mapping[str, Any]
_SERVER_OWNED = ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "selfLink")


class ApiFailure(Exception):  # noqa: N818 (a refusal is what some tests want)
    """The API server refused; `status` is the HTTP status."""

    def __init__(self, status: int, what: str) -> None:
        super().__init__(f"{status}: {what}")
        self.status = status


class Client:
    """One user of one API server.

    Args:
        port: where it listens on 127.0.0.1.
        ca: file with its CA.
        certificate, key: files of a client certificate, or
        token: a bearer token.
    """

    def __init__(
        self,
        port: int,
        ca: Path,
        *,
        certificate: Path | None = None,
        key: Path | None = None,
        token: str = "",
    ) -> None:
        self._port = port
        self._tls = ssl.create_default_context(cafile=str(ca))
        self._tls.verify_flags &= ~ssl.VERIFY_X509_STRICT  # a test CA without key identifiers
        if certificate is not None and key is not None:
            self._tls.load_cert_chain(certificate, key)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._lock = threading.Lock()
        self._connection: http.client.HTTPSConnection | None = None
        self._plurals: dict[tuple[str, str], tuple[str, bool]] = {}

    # -- requests ----------------------------------------------------------------------------------------

    def request(
        self, method: str, path: str, body: object = None, content_type: str = "application/json"
    ) -> Any:
        """The decoded answer; raises ApiFailure, and OSError where there is none."""
        text = None if body is None else json.dumps(body)
        headers = {**self._headers, **({"Content-Type": content_type} if body is not None else {})}
        with self._lock:
            status, answer = self._exchange(method, path, text, headers)
        if not 200 <= status < 300:
            raise ApiFailure(status, f"{method} {path}: {answer.decode(errors='replace')[:2000]}")
        return json.loads(answer) if answer[:1] in b"{[" else answer.decode()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _exchange(
        self, method: str, path: str, body: str | None, headers: Mapping[str, str]
    ) -> tuple[int, bytes]:
        for attempt in (0, 1):
            fresh = self._connection is None
            if self._connection is None:
                self._connection = http.client.HTTPSConnection(
                    "127.0.0.1", self._port, context=self._tls, timeout=30
                )
            try:
                self._connection.request(method, path, body, dict(headers))
                response = self._connection.getresponse()
                return response.status, response.read()
            except (OSError, http.client.HTTPException):
                self.close()
                if fresh or attempt:  # an idle connection may have been closed, a fresh one may not
                    raise
        raise AssertionError

    # -- manifests ---------------------------------------------------------------------------------------

    def path(self, manifest: Manifest, *, collection: bool = False, subresource: str = "") -> str:
        """The URL path of an object, or of the collection it is in."""
        version, kind, metadata = manifest["apiVersion"], manifest["kind"], manifest.get("metadata", {})
        plural, namespaced = self._plural(version, kind)
        parts = ["/apis" if "/" in version else "/api", version]
        if namespaced:
            parts += ["namespaces", metadata.get("namespace", "default")]
        parts.append(plural)
        if not collection:
            parts.append(metadata["name"])
        return "/".join(parts + ([subresource] if subresource else []))

    def create(self, manifest: Manifest) -> dict[str, Any]:
        """POST it, then its `status`, if any, through the subresource; returns what is there then.

        Fields that only the server sets (uid, times, versions) are left out.
        """
        made: dict[str, Any] = self.request("POST", self.path(manifest, collection=True), _wanted(manifest))
        if manifest.get("status"):
            return self.set_status(made, manifest["status"])
        return made

    def set_status(self, manifest: Manifest, status: Manifest) -> dict[str, Any]:
        """Write `status` through its subresource, nothing else."""
        path = self.path(manifest, subresource="status")
        body = {"status": status}
        found: dict[str, Any] = self.request("PATCH", path, body, "application/merge-patch+json")
        return found

    def get(self, manifest: Manifest) -> dict[str, Any] | None:
        """What is there now under the manifest's name; None where nothing is."""
        try:
            found: dict[str, Any] = self.request("GET", self.path(manifest))
        except ApiFailure as failure:
            if failure.status == http.client.NOT_FOUND:
                return None
            raise
        return found

    def patch(self, manifest: Manifest, patch: Manifest) -> dict[str, Any]:
        """A JSON merge patch."""
        found: dict[str, Any] = self.request(
            "PATCH", self.path(manifest), patch, "application/merge-patch+json"
        )
        return found

    def apply(self, manifest: Manifest, manager: str = "tests") -> dict[str, Any]:
        """Server-side apply, conflicts taken over; makes what is not there."""
        found: dict[str, Any] = self.request(
            "PATCH",
            f"{self.path(manifest)}?fieldManager={manager}&force=true",
            _wanted(manifest),
            "application/apply-patch+yaml",
        )
        return found

    def items(self, version: str, kind: str, namespace: str = "") -> list[dict[str, Any]]:
        """All objects of a kind, in one namespace or in all."""
        plural, _ = self._plural(version, kind)
        where = f"/namespaces/{namespace}" if namespace else ""
        root = "/apis" if "/" in version else "/api"
        found: list[dict[str, Any]] = self.request("GET", f"{root}/{version}{where}/{plural}")["items"]
        return found

    def delete(self, manifest: Manifest) -> None:
        """Gone when this returns, without grace, or gone before. A namespace goes with its content."""
        if manifest["kind"] == "Namespace":
            self._empty(manifest["metadata"]["name"])
        self.delete_path(self.path(manifest))
        if manifest["kind"] == "Namespace":
            self.finalize(manifest)

    def delete_path(self, path: str) -> None:
        """Delete what is under a path of `everything`."""
        try:
            self.request("DELETE", path, {"gracePeriodSeconds": 0, "propagationPolicy": "Background"})
        except ApiFailure as failure:
            if failure.status != http.client.NOT_FOUND:
                raise

    def _empty(self, namespace: str) -> None:
        """What the namespace controller does: delete all content."""
        for path, found in self.everything(namespaced=True):
            if found["metadata"]["namespace"] == namespace:
                self.delete_path(path)

    def finalize(self, manifest: Manifest) -> None:
        """Let a deleted, empty Namespace go, as the namespace controller would."""
        found = self.get(manifest)
        if found is not None:
            found["spec"] = {"finalizers": []}
            self.request("PUT", self.path(manifest, subresource="finalize"), found)

    # -- discovery ---------------------------------------------------------------------------------------

    def resources(self) -> list[tuple[str, str, bool, frozenset[str]]]:
        """All that the server has: root path of the version, plural, whether namespaced, verbs."""
        groups = self.request("GET", "/apis")["groups"]
        roots = ["/api/v1", *(f"/apis/{group['preferredVersion']['groupVersion']}" for group in groups)]
        return [
            (root, each["name"], each["namespaced"], frozenset(each["verbs"]))
            for root in roots
            for each in self.request("GET", root)["resources"]
            if "/" not in each["name"]
        ]

    def everything(self, *, namespaced: bool | None = None) -> list[tuple[str, dict[str, Any]]]:
        """Every object of the cluster with its path, Events last: deleting others may write them."""
        found = []
        for root, plural, in_namespace, verbs in self.resources():
            if not {"list", "delete"} <= verbs or (namespaced is not None and in_namespace != namespaced):
                continue
            for item in self.request("GET", f"{root}/{plural}")["items"]:
                metadata = item["metadata"]
                where = f"/namespaces/{metadata['namespace']}" if in_namespace else ""
                found.append((f"{root}{where}/{plural}/{metadata['name']}", item))
        return sorted(found, key=lambda each: "/events/" in each[0])

    def _plural(self, version: str, kind: str) -> tuple[str, bool]:
        if (version, kind) not in self._plurals:
            root = "/apis" if "/" in version else "/api"
            for each in self.request("GET", f"{root}/{version}")["resources"]:
                if "/" not in each["name"]:
                    self._plurals[version, each["kind"]] = each["name"], each["namespaced"]
        try:
            return self._plurals[version, kind]
        except KeyError:
            raise LookupError(f"the API server has no {version} {kind}") from None


def _wanted(manifest: Manifest) -> dict[str, Any]:
    tree = {key: value for key, value in manifest.items() if key != "status"}
    tree["metadata"] = {
        key: value for key, value in manifest.get("metadata", {}).items() if key not in _SERVER_OWNED
    }
    return tree
