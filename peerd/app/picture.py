"""The one snapshot that health, metrics and debug pages are drawn from (peerd/observe)."""

from peerd.observe.snapshot import StreamView
from peerd.serve.connections import Connection, ConnectionRegistry


def stream_views(registry: ConnectionRegistry) -> tuple[StreamView, ...]:
    """Every open stream."""
    return tuple(_stream(connection) for connection in registry)


def _stream(connection: Connection) -> StreamView:
    return StreamView(
        connection=connection.id,
        proxy=connection.proxy,
        kind=connection.caller.kind.value,
        identity=str(connection.caller.identity or ""),
        address=connection.remote,
        connected_at=connection.connected_at,
        cluster=connection.node.text("CLUSTER_ID"),
        version=connection.node.text("ISTIO_VERSION"),
        types=connection.views(),
    )
