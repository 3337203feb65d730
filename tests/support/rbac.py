"""What the shipped roles grant, and what of it was used: manifests/base against an API server's audit log."""

import http
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.support.apiserver import ApiServer, Request

BASE = Path(__file__).parents[2] / "manifests" / "base"
NAMESPACE, ACCOUNT = "istio-system", "peerd"
USER = f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}"
_PATIENCE = 30.0
_ROLES = (
    "serviceaccount",
    "clusterrole",
    "clusterrolebinding",
    "role",
    "rolebinding",
    "gateways-role",
    "gateways-rolebinding",
)


@dataclass(frozen=True, order=True)
class Grant:
    """One verb on one resource; `namespace` empty: in all. `name` empty: on all objects."""

    group: str
    resource: str
    verb: str
    namespace: str = ""
    name: str = ""

    def __str__(self) -> str:
        kind = f"{self.resource}.{self.group}" if self.group else self.resource
        name = f" {self.name}" if self.name else ""
        return f"{self.verb} {kind}{name} in {self.namespace or 'all namespaces'}"

    def covers(self, request: Request) -> bool:
        """Whether this is what allowed it.

        A role with names allows to list and watch where the field selector names one, and then the audit
        log has the name. An apply that made the object was allowed by `create` as well.
        """
        verbs = {request.verb}
        if request.verb == "patch" and request.status == http.HTTPStatus.CREATED:
            verbs.add("create")
        return (
            (self.group, self.resource) == (request.group, request.resource)
            and self.verb in verbs
            and self.namespace in ("", request.namespace)
            and self.name in ("", request.name)
        )


def manifests(directory: Path = BASE) -> list[dict[str, Any]]:
    """The shipped account, roles and bindings; of a mode's own *directory* what it has of them."""
    return [
        tree
        for name in _ROLES
        if (directory / f"{name}.yaml").exists()
        for tree in yaml.safe_load_all((directory / f"{name}.yaml").read_text())
        if tree is not None
    ]


def install(server: ApiServer) -> Path:
    """Make them (and the system namespace) in *server*; returns peerd's kubeconfig, with a real token."""
    system = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    for tree in [system, *manifests()]:
        server.admin.apply(tree)
    end = time.monotonic() + _PATIENCE
    while late := [grant for grant in granted() if not _allowed(server, grant)]:
        if time.monotonic() > end:
            raise TimeoutError(f"granted and not allowed: {late}")
    return server.kubeconfig(server.token(NAMESPACE, ACCOUNT), name=ACCOUNT)


def _allowed(server: ApiServer, grant: Grant) -> bool:
    """Whether the API server knows it already: roles take effect a moment after they are written."""
    resource, _, subresource = grant.resource.partition("/")
    attributes = {
        "group": grant.group,
        "resource": resource,
        "subresource": subresource,
        "verb": grant.verb,
        "namespace": grant.namespace,
        "name": grant.name,
    }
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": USER, "resourceAttributes": attributes},
    }
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    return bool(server.admin.request("POST", path, review)["status"]["allowed"])


def granted(directory: Path = BASE) -> list[Grant]:
    """Every verb of every shipped role, one by one."""
    return grants_of(manifests(directory))


def grants_of(trees: Iterable[dict[str, Any]]) -> list[Grant]:
    """Every verb of the roles among *trees*, one by one; wildcards are not to be had."""
    return sorted(
        Grant(group, resource, verb, tree["metadata"].get("namespace", ""), name)
        for tree in trees
        for rule in tree.get("rules", ())
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        for name in rule.get("resourceNames", ("",))
    )


def unused(grants: Iterable[Grant], requests: Iterable[Request]) -> list[Grant]:
    """The grants that no request needed."""
    requests = list(requests)
    return [grant for grant in grants if not any(grant.covers(request) for request in requests)]


def refused(requests: Iterable[Request]) -> list[Request]:
    """What was asked and not allowed."""
    return [request for request in requests if request.refused]
