"""Reading and writing single objects."""

from collections.abc import Mapping
from typing import Any

import msgspec

from peerd.kubeapi.base import ApiTransport, ApiUnreachableError, Response
from peerd.kubeapi.errors import ApiError
from peerd.model.record import Record

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
NOT_FOUND = 404


class Resource(Record, frozen=True):
    """One resource of the API: `group` is empty for the core group, `plural` as in paths."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """`apiVersion` of its objects."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The path of one object, of a namespace's objects, or of all."""
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts += [self.plural, *filter(None, (name, subresource))]
        return "/".join(parts)


class KubeObjects:
    """Objects of one API server, as decoded JSON. Every method raises ApiError and ApiUnreachableError."""

    def __init__(self, transport: ApiTransport) -> None:
        self._transport = transport

    async def get(self, resource: Resource, namespace: str, name: str) -> dict[str, Any] | None:
        """The object, or None where there is none."""
        response = await self._transport.request("GET", resource.path(namespace, name))
        return None if _absent(response) else _decoded(f"get {resource.kind} {name}", response)

    async def list(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        labels: str = "",
        fields: str = "",
        page: int = 500,
    ) -> list[dict[str, Any]]:
        """All objects of *resource* that the selectors *labels* and *fields* match, read page by page."""
        found: list[dict[str, Any]] = []
        selectors = {"labelSelector": labels, "fieldSelector": fields}
        query = {"limit": str(page)} | {key: value for key, value in selectors.items() if value}
        while True:
            response = await self._transport.request("GET", resource.path(namespace), query=query)
            answer = _decoded(f"list {resource.plural}", response)
            found += answer.get("items") or ()
            token = (answer.get("metadata") or {}).get("continue", "")
            if not token:
                return found
            query["continue"] = token

    async def apply(
        self, resource: Resource, manifest: Mapping[str, Any], *, manager: str, subresource: str = ""
    ) -> dict[str, Any]:
        """Server-side apply of *manifest* (metadata and the fields we own), conflicts taken over."""
        metadata = manifest["metadata"]
        namespace, name = metadata.get("namespace", ""), metadata["name"]
        body = {"apiVersion": resource.api_version, "kind": resource.kind, **manifest}
        response = await self._transport.request(
            "PATCH",
            resource.path(namespace, name, subresource),
            query={"fieldManager": manager, "force": "true"},
            body=msgspec.json.encode(body),
            content_type=APPLY,
        )
        return _decoded(f"apply {resource.kind} {namespace}/{name}", response)

    async def merge(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        patch: Mapping[str, Any],
        *,
        manager: str,
        subresource: str = "",
    ) -> dict[str, Any]:
        """JSON merge patch: members that are None are taken away, whoever owns them."""
        response = await self._transport.request(
            "PATCH",
            resource.path(namespace, name, subresource),
            query={"fieldManager": manager},
            body=msgspec.json.encode(patch),
            content_type=MERGE,
        )
        return _decoded(f"patch {resource.kind} {namespace}/{name}", response)

    async def create(
        self, resource: Resource, manifest: Mapping[str, Any], *, manager: str = "", subresource: str = ""
    ) -> dict[str, Any]:
        """POST; a name that is taken is an ApiError with the reason `AlreadyExists`."""
        metadata = manifest.get("metadata", {})
        body = {"apiVersion": resource.api_version, "kind": resource.kind, **manifest}
        response = await self._transport.request(
            "POST",
            resource.path(
                metadata.get("namespace", ""), metadata["name"] if subresource else "", subresource
            ),
            query={"fieldManager": manager} if manager else {},
            body=msgspec.json.encode(body),
        )
        return _decoded(f"create {resource.kind}", response)

    async def replace(
        self, resource: Resource, manifest: Mapping[str, Any], *, manager: str = ""
    ) -> dict[str, Any]:
        """PUT: wins only where `metadata.resourceVersion` is still the object's."""
        metadata = manifest["metadata"]
        namespace, name = metadata.get("namespace", ""), metadata["name"]
        body = {"apiVersion": resource.api_version, "kind": resource.kind, **manifest}
        response = await self._transport.request(
            "PUT",
            resource.path(namespace, name),
            query={"fieldManager": manager} if manager else {},
            body=msgspec.json.encode(body),
        )
        return _decoded(f"replace {resource.kind} {namespace}/{name}", response)

    async def delete(self, resource: Resource, namespace: str, name: str, *, uid: str = "") -> bool:
        """Delete it, only if it is still the one with *uid* where that is given; False where it was gone."""
        body = msgspec.json.encode({"preconditions": {"uid": uid}}) if uid else b""
        response = await self._transport.request("DELETE", resource.path(namespace, name), body=body)
        if _absent(response):
            return False
        _decoded(f"delete {resource.kind} {namespace}/{name}", response)
        return True


class _Reason(Record, frozen=True):
    reason: str = ""


def _absent(response: Response) -> bool:
    """Whether the server says so; a proxy's 404, or one of a server that is starting, is an error."""
    if response.status != NOT_FOUND:
        return False
    try:
        return msgspec.json.decode(response.body, type=_Reason).reason == "NotFound"
    except msgspec.DecodeError:
        return False


def _decoded(what: str, response: Response) -> dict[str, Any]:
    if not 200 <= response.status < 300:
        raise ApiError(what, response)
    try:
        return msgspec.json.decode(response.body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiUnreachableError(f"{what}: an answer that is no object: {error}") from error
