"""Which rights the API server says we lack: verb and resource, for whoever administers the cluster.

Every request of every part goes through `RightsTransport`, so that none of them need say it: a right is
lacking from the refusal that names it until an answer to the same verb on the same resource shows that it was
given back. A 403 that names no right (a quota, a webhook, a namespace that ends) is the object's, not ours.
"""

import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from peerd.kubeapi.base import ApiTransport, Response
from peerd.kubeapi.errors import ApiError
from peerd.model.clock import Clock
from peerd.model.record import Record

_FORBIDDEN = 403
_ANSWERED = frozenset({404, 409, 410, 422})  # refusals of those who may
_CREATED = 201
_LAPSE = 900.0
"""Seconds after which a refusal that did not recur is no news: what needed the right is wanted no more."""
_REFUSAL = re.compile(
    r'cannot (\w+) resource "([^"]+)" in API group "([^"]*)"(?: in the namespace "([^"]+)")?'
)
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


class Right(Record, frozen=True, order=True):
    """`verb` on `resource`: `plural.group/subresource`, as `kubectl auth can-i` takes it."""

    verb: str
    resource: str

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}"


class Lacking(Record, frozen=True, order=True):
    """A right that we lack, and the first namespace it was refused in; empty: in all."""

    right: Right
    namespace: str


def refused_right(text: str) -> Lacking | None:
    """The right that the message of a 403 says is lacking; None where it names none."""
    found = _REFUSAL.search(text)
    if found is None:
        return None
    verb, resource, group, namespace = found.groups()
    return Lacking(Right(verb, _named(group, resource)), namespace or "")


class Rights:
    """What is lacking at present. *clock* is monotonic."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # By namespace, as each may have a Role of its own: when it was refused last.
        self._refused: dict[Right, dict[str, float]] = {}

    def lacking(self) -> tuple[Lacking, ...]:
        """One for each right, sorted."""
        before = self._clock.monotonic() - _LAPSE
        for right, places in list(self._refused.items()):
            for namespace in [each for each, at in places.items() if at < before]:
                self._forget(right, namespace)
        return tuple(sorted(Lacking(right, next(iter(places))) for right, places in self._refused.items()))

    def refused(self, answer: ApiError) -> None:
        """The API server refused a request."""
        found = refused_right(str(answer)) if answer.status == _FORBIDDEN else None
        if found is not None:
            self._refused.setdefault(found.right, {})[found.namespace] = self._clock.monotonic()

    def answered(self, verb: str, path: str) -> None:
        """The API server did what was asked by *verb*, or had another reason not to."""
        if self._refused:
            resource, namespace = _asked(path)
            self._forget(Right(verb, resource), namespace)

    def _forget(self, right: Right, namespace: str) -> None:
        places = self._refused.get(right, {})
        places.pop(namespace, None)
        if not places:
            self._refused.pop(right, None)


class RightsTransport:
    """*transport*, of which *rights* learns."""

    def __init__(self, transport: ApiTransport, rights: Rights) -> None:
        self._transport = transport
        self._rights = rights

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
        """`ApiTransport.request`."""
        response = await self._transport.request(
            method, path, query=query, body=body, content_type=content_type, timeout=timeout
        )
        if response.status == _FORBIDDEN:
            self._rights.refused(ApiError(method, response))
        elif response.status < 400 or response.status in _ANSWERED:
            self._rights.answered(_verb(method, path), path)
            if method == "PATCH" and response.status == _CREATED:
                self._rights.answered("create", path)
        return response

    async def stream(self, path: str, *, query: Mapping[str, str]) -> AsyncGenerator[bytes, None]:
        """`ApiTransport.stream`."""
        try:
            async with aclosing(self._transport.stream(path, query=query)) as lines:
                async for line in lines:
                    self._rights.answered("watch", path)
                    yield line
        except ApiError as error:
            self._rights.refused(error)
            raise

    async def close(self) -> None:
        """`ApiTransport.close`."""
        await self._transport.close()


def _verb(method: str, path: str) -> str:
    return _VERBS.get(method) or ("get" if _parts(path)[3] else "list")


def _asked(path: str) -> tuple[str, str]:
    """Resource and namespace."""
    group, namespace, resource, _ = _parts(path)
    return _named(group, resource), namespace


def _parts(path: str) -> tuple[str, str, str, str]:
    """Group, namespace, `plural/subresource`, and name, each empty where there is none."""
    root, *rest = path.strip("/").split("/")
    group, rest = (rest[0], rest[2:]) if root == "apis" else ("", rest[1:])
    namespace = ""
    if len(rest) > 2 and rest[0] == "namespaces":
        namespace, rest = rest[1], rest[2:]
    plural, name, subresource = (*rest, "", "")[:3]
    return group, namespace, f"{plural}/{subresource}" if subresource else plural, name


def _named(group: str, resource: str) -> str:
    if not group:
        return resource
    plural, slash, subresource = resource.partition("/")
    return f"{plural}.{group}{slash}{subresource}"
