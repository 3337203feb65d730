"""istioctl's debug types over the state-of-the-world method (wire-contract §5.6)."""

import json
from collections.abc import Callable

from peerd import __version__
from peerd.model.types import DEBUG, DEBUG_CONFIG_DUMP, DEBUG_SYNCZ
from peerd.protocol.debug import (
    ClientStatus,
    ConfigStatus,
    TypeConfig,
    body_response,
    parse_debug_request,
    syncz_response,
)
from peerd.protocol.errors import ProtocolError
from peerd.serve.connections import Connection, ConnectionRegistry, TypeView
from peerd.transport.base import StatusCode, Stream, StreamClosed

# Of a client's metadata, what istiod passes on.
_METADATA = ("CLUSTER_ID", "NAMESPACE", "ISTIO_VERSION")

View = Callable[[str, str], bytes | None]


class DebugTypes:
    """Answers debug requests.

    Args:
        registry: the open streams.
        instance: this replica's name; it keys istioctl's merge of several answers, so it must be unique.
        view: the body of the debug page of a name and an argument (`config_dump`'s proxy, else empty), None
            where there is no such page.
    """

    types = frozenset((DEBUG, DEBUG_SYNCZ, DEBUG_CONFIG_DUMP))

    def __init__(self, registry: ConnectionRegistry, instance: str, view: View | None = None) -> None:
        self._registry = registry
        self._view = view or (lambda _name, _argument: None)
        info = {
            "version": __version__,
            "revision": "unknown",
            "golang_version": "none",
            "status": "unknown",
            "tag": __version__,
        }
        self._identifier = json.dumps({"Component": "istiod", "ID": instance, "Info": info})
        self._instance = instance
        self._answers = 0

    async def serve(self, stream: Stream, judge: Callable[[str], None]) -> None:
        """Answer until the client is done; *judge* raises StreamClosed for a type the caller may not have."""
        while (message := await stream.receive()) is not None:
            try:
                request = parse_debug_request(message)
            except ProtocolError as error:
                raise StreamClosed(StatusCode.INVALID_ARGUMENT, str(error)) from None
            if request.type_url not in self.types:
                raise StreamClosed(
                    StatusCode.INVALID_ARGUMENT,
                    f"{request.type_url[:200]!r} is not served state-of-the-world;"
                    f" {', '.join(sorted(self.types))} are",
                )
            judge(request.type_url)
            if request.error is None:
                await stream.send(self.answer(request.type_url, request.names))

    def answer(self, type_url: str, names: tuple[str, ...]) -> bytes:
        """The response to one request.

        Raises:
            StreamClosed: NOT_FOUND where no such page exists.
        """
        self._answers += 1
        nonce = f"{self._instance}-debug-{self._answers}"
        if type_url == DEBUG_SYNCZ:
            return syncz_response(type_url, nonce, self._identifier, map(client_status, self._named()))
        argument = names[0] if names else ""
        name, _, query = (
            ("config_dump", "", argument) if type_url == DEBUG_CONFIG_DUMP else argument.partition("?")
        )
        if name == "syncz":
            return body_response(type_url, nonce, self._identifier, self._syncz_body())
        body = self._view(name, query.removeprefix("proxyID="))
        if body is None:
            raise StreamClosed(StatusCode.NOT_FOUND, f"there is no debug page {argument[:200]!r}")
        return body_response(type_url, nonce, self._identifier, body)

    def _named(self) -> list[Connection]:
        """Streams whose first request came."""
        return [connection for connection in self._registry if connection.node.id]

    def _syncz_body(self) -> bytes:
        """The JSON of `/debug/syncz` (wire-contract §5.8)."""
        return json.dumps(
            [
                {
                    "cluster_id": connection.node.text("CLUSTER_ID"),
                    "proxy": connection.proxy,
                    "proxy_type": connection.node.id.partition("~")[0],
                    "istio_version": connection.node.text("ISTIO_VERSION"),
                    "resources": {
                        view.type_url: {
                            "sent": view.sent,
                            "acked": view.acked,
                            "sentTime": view.sent_at,
                            "lastError": view.error,
                        }
                        for view in connection.views()
                    },
                }
                for connection in self._named()
            ]
        ).encode()


def client_status(connection: Connection) -> ClientStatus:
    """One row of syncz."""
    metadata = {key: value for key in _METADATA if (value := connection.node.text(key))}
    return ClientStatus(
        connection.proxy,
        metadata,
        tuple(
            TypeConfig(view.type_url, status_of(view), view.sent_at, view.error, view.error_at)
            for view in connection.views()
        ),
    )


def status_of(view: TypeView) -> ConfigStatus:
    """Istiod's rule: an error, nothing sent, all ACKed, or behind."""
    if view.error:
        return ConfigStatus.ERROR
    if not view.sent:
        return ConfigStatus.NOT_SENT
    return ConfigStatus.SYNCED if view.acked == view.sent else ConfigStatus.STALE
