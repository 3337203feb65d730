"""Manifests of small clusters: Services of namespace `shop`, their Pods, Gateways to other clusters."""

from collections.abc import Iterable

_REMOTE = """\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata:
  name: peer-{cluster}
  namespace: istio-system
  labels: {{topology.istio.io/network: {network}, topology.istio.io/cluster: {cluster}}}
  annotations: {{gateway.istio.io/service-account: istio-eastwest}}
spec:
  gatewayClassName: istio-remote
  addresses: [{addresses}]
  listeners:
    - {{name: cross-network, port: 15008, protocol: HBONE, tls: {{mode: Passthrough}}}}
    - {{name: xds-tls, port: {port}, protocol: TLS, tls: {{mode: Passthrough}}}}
"""
_SERVICE = """\
apiVersion: v1
kind: Service
metadata:
  name: {name}
  namespace: shop
  labels: {{{labels}}}
  creationTimestamp: "2026-01-10T06:00:00Z"
spec:
  clusterIP: 10.96.0.{number}
  selector: {{app: {name}}}
  ports: [{{name: http, port: 80, targetPort: 8080}}]
"""
_POD = """\
apiVersion: v1
kind: Pod
metadata:
  name: {name}-{number}
  namespace: shop
  labels: {{app: {name}}}
  annotations: {{ambient.istio.io/redirection: enabled}}
spec: {{nodeName: node-1, serviceAccountName: {name}}}
status:
  phase: Running
  podIP: {address}
  podIPs: [{{ip: {address}}}]
  conditions: [{{type: Ready, status: "{ready}"}}]
"""


def remote_gateway(cluster: str, addresses: Iterable[str], port: int, *, network: str = "") -> str:
    """The istio-remote Gateway `peer-<cluster>`, whose control plane is at *port*."""
    return _REMOTE.format(
        cluster=cluster, network=network or f"{cluster}-net", addresses=address_list(addresses), port=port
    )


def service(name: str, number: int, *, everywhere: bool) -> str:
    """Service `shop/<name>` at 10.96.0.*number*; *everywhere*: global."""
    labels = "solo.io/service-scope: global" if everywhere else ""
    return _SERVICE.format(name=name, number=number, labels=labels)


def pod(name: str, number: int, address: str, *, ready: bool = True) -> str:
    """Pod `shop/<name>-<number>` in the mesh."""
    return _POD.format(name=name, number=number, address=address, ready=ready)


def address_list(addresses: Iterable[str]) -> str:
    """As `spec.addresses` of a Gateway has them."""
    return ", ".join(f"{{type: IPAddress, value: {each}}}" for each in addresses)
