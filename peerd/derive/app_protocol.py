"""Application protocols, as Istio reads them from port names and declared protocols."""

from peerd.model.address import AppProtocol
from peerd.model.kube.core import ServicePort

_NAMES = {
    "http": AppProtocol.HTTP11,
    "http2": AppProtocol.HTTP2,
    "grpc": AppProtocol.GRPC,
    "https": AppProtocol.TLS,
    "tls": AppProtocol.TLS,
    "tcp": AppProtocol.TCP,
}
# Istio knows these, the wire has no value for them; so a well-known port number says nothing either.
_OTHER_KNOWN = {"udp", "http_proxy", "mongo", "redis", "mysql"}
_KUBERNETES = {
    "kubernetes.io/h2c": AppProtocol.HTTP2,
    "kubernetes.io/ws": AppProtocol.HTTP11,
    "kubernetes.io/wss": AppProtocol.TLS,
}
# SMTP, DNS, MySQL and MongoDB: server-first protocols, taken for TCP where nothing else is said.
_WELL_KNOWN_TCP = {25, 53, 3306, 27017}


def declared(protocol: str) -> AppProtocol:
    """The `protocol` of a ServiceEntry port, whatever its case."""
    return _NAMES.get(protocol.lower(), AppProtocol.UNKNOWN)


def of_service_port(port: ServicePort) -> AppProtocol:
    """`appProtocol`, else the port name up to its first hyphen; UDP is unknown (golden: service-kinds)."""
    if port.protocol == "UDP":
        return AppProtocol.UNKNOWN
    if port.app_protocol in _KUBERNETES:
        return _KUBERNETES[port.app_protocol]
    name = (port.app_protocol or port.name).lower()
    if name.startswith("grpc-web"):
        return AppProtocol.UNKNOWN
    name = name.partition("-")[0]
    if name in _NAMES:
        return _NAMES[name]
    if port.port in _WELL_KNOWN_TCP and name not in _OTHER_KNOWN:
        return AppProtocol.TCP
    return AppProtocol.UNKNOWN
