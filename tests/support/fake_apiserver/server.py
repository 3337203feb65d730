"""The server: paths to storage, watches over its history, tokens."""

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from random import Random
from typing import Any

from peerd.kubeapi.base import ApiUnreachableError, Response
from peerd.kubeapi.errors import ApiError
from tests.support.fake_apiserver.apply import ApplyConflict, apply, merge, own_update
from tests.support.fake_apiserver.faults import Faults, error_event, refused, status
from tests.support.fake_apiserver.storage import Conflict, Definition, Entry, Key, Storage, Tree

BOOKMARK_SECONDS = 60.0
EPOCH = 1_780_000_000.0

_DEFINITIONS = Definition(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)
_BUILT_IN_GROUPS = ("discovery.k8s.io", "events.k8s.io", "coordination.k8s.io")
_REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"


@dataclass(frozen=True)
class FakeToken:
    """What a token proves, until when (Unix seconds), to whom."""

    account: str  # namespace/name
    audiences: tuple[str, ...] = ("istio-ca",)
    expires: float = EPOCH * 2
    pod: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class _Place:
    definition: Definition
    namespace: str
    name: str
    subresource: str

    @property
    def key(self) -> Key:
        return self.namespace, self.name

    @property
    def resource(self) -> str:
        """As in rules of RBAC."""
        return f"{self.definition.plural}/{self.subresource}".rstrip("/")

    def refused(self, verb: str) -> Response:
        return Response(403, refused(verb, self.resource, self.definition.group, self.namespace))


class FakeApiServer:
    """One cluster's API server.

    Args:
        random: for uids.
        streams_lists: whether watches may begin with `sendInitialEvents`.
    """

    def __init__(self, random: Random | None = None, *, streams_lists: bool = True) -> None:
        self.storage = Storage(random or Random(1), self.now)
        self.streams_lists = streams_lists
        self.tokens: dict[str, FakeToken] = {}
        self.forbidden: set[tuple[str, str]] = set()
        """(verb, `plural` or `plural/subresource`) that RBAC does not grant: answered 403."""
        self.requests: list[tuple[str, str, str]] = []
        """Method or `WATCH`, path, and query as text."""
        self.refuse_tokens = False
        self._definitions: dict[tuple[str, str, str], Definition] = {}
        self._changed = asyncio.Event()
        self._epoch = 0  # of the process: streams of an earlier one are broken
        self._down = False
        self._pages: dict[str, tuple[int, list[Tree]]] = {}

    # -- for tests ---------------------------------------------------------------------------------------

    def transport(self, faults: Faults | None = None) -> "FakeTransport":
        return FakeTransport(self, faults or Faults())

    def now(self) -> float:
        try:
            return EPOCH + asyncio.get_running_loop().time()
        except RuntimeError:  # set up outside of a loop
            return EPOCH

    def define(self, definition: Definition) -> None:
        """Serve a resource."""
        self._definitions[definition.group, definition.version, definition.plural] = definition

    def undefine(self, plural: str, group: str) -> None:
        """Delete a CustomResourceDefinition: its objects go first."""
        for key, _ in list(self.storage.items(f"{plural}.{group}")):
            self.storage.delete(f"{plural}.{group}", key)
        for key, definition in list(self._definitions.items()):
            if (definition.plural, definition.group) == (plural, group):
                del self._definitions[key]
        self._wake()

    def defined(self, kind: str) -> bool:
        """Whether a kind is served."""
        return any(each.kind == kind for each in self._definitions.values())

    def lose_etcd(self) -> None:
        """While it is stopped: objects, CustomResourceDefinitions and the counter of versions are gone."""
        self.storage.empty()
        for key, definition in list(self._definitions.items()):
            if "." in definition.group and not definition.group.endswith(_BUILT_IN_GROUPS):
                del self._definitions[key]

    def put(self, manifest: Tree, *, manager: str = "kubectl") -> Tree:
        """Create or replace, status included; returns the object."""
        definition = self._defined(manifest["apiVersion"], manifest["kind"])
        metadata = manifest["metadata"]
        key = (metadata.get("namespace") or "default" if definition.namespaced else "", metadata["name"])
        held = self.storage.get(definition.name, key)
        tree = own_update(held, manifest, manager, "")
        if held is None:
            written = self.storage.create(definition.name, key, tree)
        else:
            tree["metadata"].pop("resourceVersion", None)
            written = self.storage.update(definition.name, key, tree)
        self._wake()
        return written

    def delete(self, kind: str, namespace: str, name: str) -> bool:
        (resource,) = {each.name for each in self._definitions.values() if each.kind == kind}
        gone = self.storage.delete(resource, (namespace, name))
        self._wake()
        return gone is not None

    def objects(self, kind: str) -> dict[Key, Tree]:
        (resource,) = {each.name for each in self._definitions.values() if each.kind == kind}
        return dict(self.storage.items(resource))

    def deny(self, verb: str, resource: str, seconds: float) -> None:
        """Take a right away, and give it back so much later."""
        self.forbidden.add((verb, resource))
        again = self.forbidden.discard
        asyncio.get_running_loop().call_later(seconds, again, (verb, resource))

    def compact(self) -> None:
        """etcd's compaction; open list continuations expire too."""
        self.storage.compact()
        self._pages.clear()

    def stop(self) -> None:
        """The process is gone: streams break, nobody answers."""
        self._down = True
        self._epoch += 1
        self._pages.clear()
        self._wake()

    def start(self) -> None:
        """It is back."""
        self._down = False

    def restart(self) -> None:
        self.stop()
        self.start()

    # -- requests ----------------------------------------------------------------------------------------

    def answer(
        self, method: str, path: str, query: Mapping[str, str], body: bytes, content_type: str
    ) -> Response:
        self.requests.append((method, path, json.dumps(dict(query))))
        if self._down:
            raise ApiUnreachableError("connection refused")
        if self.refuse_tokens:
            return Response(401, status(401, "Unauthorized", "Unauthorized"))
        if path == _REVIEWS:
            if ("create", "tokenreviews") in self.forbidden:
                return Response(403, refused("create", "tokenreviews", "authentication.k8s.io", ""))
            return self._review(json.loads(body))
        if path.startswith(f"/apis/{_DEFINITIONS.group}/"):
            return self._definition(path.rsplit("/", 1)[1])
        place = self._place(path)
        if place is None:
            return Response(404, status(404, "NotFound", "the server could not find the requested resource"))
        verb = {"GET": "get" if place.name else "list", "POST": "create", "PUT": "update"}.get(
            method, method.lower()
        )
        if (verb, place.resource) in self.forbidden:
            return place.refused(verb)
        try:
            return self._serve(method, place, query, body, content_type)
        except Conflict as conflict:
            return Response(409, status(409, str(conflict), "the object has been modified"))
        except ApplyConflict as conflict:
            return Response(409, status(409, "Conflict", str(conflict)))
        finally:
            self._wake()

    def _serve(
        self, method: str, place: _Place, query: Mapping[str, str], body: bytes, content_type: str
    ) -> Response:
        resource = place.definition.name
        if method == "GET" and not place.name:
            return self._list(place, query)
        sent: Tree = json.loads(body) if body else {}
        manager = query.get("fieldManager", "")
        if method == "POST":
            name = sent["metadata"].get("name") or (
                sent["metadata"]["generateName"] + f"{self.storage.version:05x}"
            )
            tree = own_update(None, sent, manager, "")
            return _answer(201, place, self.storage.create(resource, (place.namespace, name), tree))
        held = self.storage.get(resource, place.key)
        if method == "PATCH" and content_type.startswith("application/apply-patch"):
            force = query.get("force") == "true"
            after = apply(held, sent, manager, place.subresource, force=force)
            if held is None:
                if place.subresource:
                    return _not_found(place)
                if ("create", place.resource) in self.forbidden:
                    return place.refused("create")
                return _answer(201, place, self.storage.create(resource, place.key, after))
            return _answer(200, place, self.storage.update(resource, place.key, after))
        if held is None:
            return _not_found(place)
        if method == "GET":
            return _answer(200, place, held)
        if method == "DELETE":
            uid = sent.get("preconditions", {}).get("uid")
            if uid and uid != held["metadata"]["uid"]:
                raise Conflict("Conflict")
            self.storage.delete(resource, place.key)
            return Response(200, status(200, "", "deleted"))
        after = merge(held, sent) if method == "PATCH" else sent
        if place.subresource == "status":
            after = {**held, "status": after.get("status", {})}
        elif "status" in held and place.definition.kind != "Namespace":
            after = {**after, "status": held["status"]}
        after = own_update(held, after, manager, place.subresource)
        return _answer(200, place, self.storage.update(resource, place.key, after))

    def _list(self, place: _Place, query: Mapping[str, str]) -> Response:
        token = query.get("continue", "")
        if token:
            found = self._pages.pop(token, None)
            if found is None:
                return Response(410, status(410, "Expired", "the provided continue parameter is too old"))
            version, items = found
        else:
            version = self.storage.version
            chosen = (
                (key, tree)
                for key, tree in self.storage.items(place.definition.name)
                if not place.namespace or key[0] == place.namespace
            )
            items = [
                _shown(place, tree)
                for key, tree in chosen
                if _selected(query, key, tuple((tree["metadata"].get("labels") or {}).items()))
            ]
        limit = int(query.get("limit", "0")) or len(items)
        page, rest = items[:limit], items[limit:]
        metadata: Tree = {"resourceVersion": str(version)}
        if rest:
            after = base64.b64encode(f"{version}/{len(self.requests)}".encode()).decode()
            self._pages[after] = (version, rest)
            metadata["continue"] = after
        tree = {"kind": f"{place.definition.kind}List", "metadata": metadata, "items": page}
        return Response(200, json.dumps(tree).encode())

    def _review(self, sent: Tree) -> Response:
        token = self.tokens.get(sent["spec"]["token"])
        wanted = sent["spec"].get("audiences") or ["https://kubernetes.default.svc"]
        good = [each for each in wanted if token is not None and each in token.audiences]
        if token is None or not good or self.now() >= token.expires:
            sent["status"] = {"authenticated": False, "error": "invalid bearer token"}
            return Response(201, json.dumps(sent).encode())
        namespace, _, account = token.account.partition("/")
        extra: Tree = {}
        if token.pod[0]:
            extra = {
                "authentication.kubernetes.io/pod-name": [token.pod[0]],
                "authentication.kubernetes.io/pod-uid": [token.pod[1]],
            }
        sent["status"] = {
            "authenticated": True,
            "audiences": good,
            "user": {
                "username": f"system:serviceaccount:{namespace}:{account}",
                "groups": ["system:serviceaccounts", f"system:serviceaccounts:{namespace}"],
                "extra": extra,
            },
        }
        return Response(201, json.dumps(sent).encode())

    def _definition(self, name: str) -> Response:
        if ("get", "customresourcedefinitions") in self.forbidden:
            return Response(403, refused("get", _DEFINITIONS.plural, _DEFINITIONS.group, ""))
        if any(each.name == name for each in self._definitions.values()):
            return Response(200, json.dumps({"metadata": {"name": name}}).encode())
        return Response(404, status(404, "NotFound", f'customresourcedefinitions "{name}" not found'))

    # -- watches -----------------------------------------------------------------------------------------

    async def watch(self, path: str, query: Mapping[str, str]) -> AsyncGenerator[bytes, None]:
        self.requests.append(("WATCH", path, json.dumps(dict(query))))
        if self._down:
            raise ApiUnreachableError("connection refused")
        if self.refuse_tokens:
            raise _refused(401, "Unauthorized", "Unauthorized")
        place = self._place(path)
        if place is None:
            raise _refused(404, "NotFound", "the server could not find the requested resource")
        if ("watch", place.resource) in self.forbidden:
            raise ApiError("watch", place.refused("watch"))
        initial = query.get("sendInitialEvents") == "true"
        if initial and not self.streams_lists:
            raise _refused(422, "Invalid", "sendInitialEvents is forbidden for watch")
        epoch = self._epoch
        version = int(query.get("resourceVersion") or 0)
        if initial:
            version = self.storage.version
            for line in self._initial(place, query, version):
                yield line
        elif version < self.storage.compacted:
            yield error_event(410, "Expired", f"too old resource version: {version}")
            return
        async with aclosing(self._follow(place, query, version, epoch)) as lines:
            async for line in lines:
                yield line

    def _initial(self, place: _Place, query: Mapping[str, str], version: int) -> list[bytes]:
        lines = [
            _event("ADDED", json.dumps(_shown(place, tree)).encode())
            for key, tree in self.storage.items(place.definition.name)
            if (not place.namespace or key[0] == place.namespace)
            and _selected(query, key, tuple((tree["metadata"].get("labels") or {}).items()))
        ]
        ends = {"resourceVersion": str(version), "annotations": {"k8s.io/initial-events-end": "true"}}
        kind = place.definition.kind
        return [*lines, _event("BOOKMARK", json.dumps({"kind": kind, "metadata": ends}).encode())]

    async def _follow(
        self, place: _Place, query: Mapping[str, str], version: int, epoch: int
    ) -> AsyncGenerator[bytes, None]:
        loop = asyncio.get_running_loop()
        ends = loop.time() + float(query.get("timeoutSeconds", "1800"))
        bookmark = loop.time() + BOOKMARK_SECONDS
        seen: dict[Key, bool] = {}
        while True:
            changed = self._changed
            if epoch != self._epoch:
                raise ApiUnreachableError("connection reset by peer")
            for entry in self.storage.since(version):
                version = entry.version
                line = _line(place, query, entry, seen)
                if line is not None:
                    yield line
            if version < self.storage.compacted:
                yield error_event(410, "Expired", f"too old resource version: {version}")
                return
            try:
                async with asyncio.timeout_at(min(ends, bookmark)):
                    await changed.wait()
            except TimeoutError:
                if loop.time() >= ends:
                    return
                bookmark = loop.time() + BOOKMARK_SECONDS
                if self.storage.since(version):
                    continue  # a bookmark must not overtake what happened before it
                if query.get("allowWatchBookmarks") == "true" and self.storage.version >= version:
                    version = max(version, self.storage.version)
                    metadata = {"resourceVersion": str(version)}
                    text = json.dumps({"kind": place.definition.kind, "metadata": metadata}).encode()
                    yield _event("BOOKMARK", text)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    # -- paths -------------------------------------------------------------------------------------------

    def _defined(self, api_version: str, kind: str) -> Definition:
        for definition in self._definitions.values():
            if definition.kind == kind and definition.group == api_version.rpartition("/")[0]:
                return definition
        raise LookupError(f"{api_version} {kind} is not defined")

    def _place(self, path: str) -> _Place | None:
        parts = path.strip("/").split("/")
        group, version, rest = (
            ("", parts[1], parts[2:]) if parts[0] == "api" else (parts[1], parts[2], parts[3:])
        )
        namespace = ""
        if len(rest) > 2 and rest[0] == "namespaces" and rest[2] not in {"status", "finalize"}:
            namespace, rest = rest[1], rest[2:]
        definition = self._definitions.get((group, version, rest[0]))
        if definition is None:
            return None
        name, subresource = (*rest[1:], "", "")[:2]
        return _Place(definition, namespace, name, subresource)


class FakeTransport:
    """`peerd.kubeapi.base.ApiTransport` to a FakeApiServer, with faults in between."""

    def __init__(self, server: FakeApiServer, faults: Faults) -> None:
        self._server = server
        self.faults = faults
        self.streams = 0
        """Open at present."""

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes = b"",
        content_type: str = "application/json",
        timeout: float = 30.0,  # noqa: ASYNC109 (the seam's)
    ) -> Response:
        await asyncio.sleep(0)
        try:
            async with asyncio.timeout(timeout):
                answer = await self.faults.before(method, path)
        except TimeoutError:
            raise ApiUnreachableError("time-out") from None
        if answer is not None:
            return answer
        served = self._server.answer(method, path, query or {}, body, content_type)
        return self.faults.after(method, path, served)

    async def stream(self, path: str, *, query: Mapping[str, str]) -> AsyncGenerator[bytes, None]:
        await asyncio.sleep(0)
        answer = await self.faults.before("WATCH", path)
        if answer is not None and answer.status != 200:
            raise ApiError(f"watch {path}", answer)
        self.streams += 1
        try:
            async with (
                aclosing(self._server.watch(path, query)) as lines,
                aclosing(self.faults.mangle(path, lines)) as mangled,
            ):
                async for line in mangled:
                    yield line
        finally:
            self.streams -= 1

    async def close(self) -> None:
        """Nothing is kept open between requests."""


def _line(place: _Place, query: Mapping[str, str], entry: Entry, seen: dict[Key, bool]) -> bytes | None:
    if entry.resource != place.definition.name or (place.namespace and entry.key[0] != place.namespace):
        return None
    chosen = _selected(query, entry.key, entry.fields)
    before = seen.get(entry.key, chosen)
    seen[entry.key] = chosen and entry.type != "DELETED"
    if not chosen and not before:
        return None
    type_ = entry.type if chosen else "DELETED"  # it no longer matches
    tree = json.loads(entry.text)
    return _event(type_, json.dumps(_shown(place, tree)).encode())


def _selected(query: Mapping[str, str], key: Key, labels: tuple[tuple[str, str], ...]) -> bool:
    for term in filter(None, query.get("fieldSelector", "").split(",")):
        field, _, value = term.partition("=")
        if {"metadata.name": key[1], "metadata.namespace": key[0]}[field] != value:
            return False
    held = dict(labels)
    for term in filter(None, query.get("labelSelector", "").split(",")):
        label, equals, value = term.partition("=")
        if label not in held or (equals and held[label] != value):
            return False
    return True


def _shown(place: _Place, tree: Any) -> Tree:
    return {"apiVersion": place.definition.api_version, "kind": place.definition.kind, **tree}


def _event(type_: str, text: bytes) -> bytes:
    return b'{"type":"' + type_.encode() + b'","object":' + text + b"}"


def _answer(code: int, place: _Place, tree: Tree) -> Response:
    return Response(code, json.dumps(_shown(place, tree)).encode())


def _not_found(place: _Place) -> Response:
    return Response(404, status(404, "NotFound", f'{place.definition.name} "{place.name}" not found'))


def _refused(code: int, reason: str, message: str) -> ApiError:
    return ApiError("watch", Response(code, status(code, reason, message)))
