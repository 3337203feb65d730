"""Nodes: where Pods are."""

from peerd.derive import labels
from peerd.model.address import Locality
from peerd.model.kube.core import Node


def node_locality(node: Node) -> Locality | None:
    """Region, zone and subzone of three labels (wire-contract §4.2); None where there is none of them.

    Nothing else of a Node counts for its Pods, so that its heartbeats re-derive nothing.
    """
    found = node.metadata.labels
    locality = Locality(
        found.get(labels.REGION, ""), found.get(labels.ZONE, ""), found.get(labels.SUBZONE, "")
    )
    return None if locality == Locality() else locality


def node_address(node: Node) -> str | None:
    """Where other clusters reach the node's ports: its external address, else its internal one."""
    for wanted in ("ExternalIP", "InternalIP"):
        for address in node.status.addresses:
            if address.type == wanted and address.address:
                return address.address
    return None
