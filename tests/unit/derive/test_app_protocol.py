"""Application protocols of port names and declarations."""

import pytest

from peerd.derive.app_protocol import declared, of_service_port
from peerd.model.address import AppProtocol
from peerd.model.kube.core import ServicePort


@pytest.mark.parametrize(
    ("port", "expected"),
    [
        (ServicePort(80, "http"), AppProtocol.HTTP11),
        (ServicePort(80, "HTTP-web"), AppProtocol.HTTP11),
        (ServicePort(80, "http2"), AppProtocol.HTTP2),
        (ServicePort(80, "grpc-web"), AppProtocol.UNKNOWN),
        (ServicePort(80, "grpc-x"), AppProtocol.GRPC),
        (ServicePort(80, "web"), AppProtocol.UNKNOWN),
        (ServicePort(80, "tcp-x", "UDP"), AppProtocol.UNKNOWN),
        (ServicePort(80, "tcp-x", "TCP", "http"), AppProtocol.HTTP11),
        (ServicePort(80, "x", "TCP", "kubernetes.io/ws"), AppProtocol.HTTP11),
        (ServicePort(80, "x", "TCP", "kubernetes.io/wss"), AppProtocol.TLS),
        (ServicePort(3306, "db"), AppProtocol.TCP),
        (ServicePort(3306, "mysql"), AppProtocol.UNKNOWN),
        (ServicePort(3306, "thrift-db"), AppProtocol.TCP),
        (ServicePort(53, "udp-dns"), AppProtocol.UNKNOWN),
        (ServicePort(53, "http"), AppProtocol.HTTP11),
    ],
)
def test_the_protocol_is_read_from_app_protocol_or_port_name(
    port: ServicePort, expected: AppProtocol
) -> None:
    """appProtocol wins; a name counts up to its hyphen; four well-known ports are TCP."""
    assert of_service_port(port) is expected


def test_declared_protocols_ignore_case() -> None:
    """A ServiceEntry's `HTTPS` is TLS on the wire; what Istio does not map is unknown."""
    assert [declared(p) for p in ("HTTPS", "http", "MONGO", "")] == [
        AppProtocol.TLS,
        AppProtocol.HTTP11,
        AppProtocol.UNKNOWN,
        AppProtocol.UNKNOWN,
    ]
