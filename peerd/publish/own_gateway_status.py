"""What the status of a Gateway of class `istio-eastwest` says: pure, from what is known (decision D33)."""

from collections.abc import Mapping
from typing import Any

from peerd.model.kube.gateway import Gateway
from peerd.model.record import Record
from peerd.publish.conditions import no, status_tree, yes
from peerd.publish.gateway_status import ACCEPTED, PROGRAMMED

Address = tuple[str, str]


class OwnFacts(Record, frozen=True):
    """What is known of a gateway: its Service's addresses (type, value), or why it is not run as it says."""

    addresses: tuple[Address, ...] = ()
    problem: str = ""


def service_addresses(service: Mapping[str, Any]) -> tuple[Address, ...]:
    """Where a gateway's Service is reached: what a load balancer gave, else inside the cluster.

    By NodePort peers learn nodes and port from PeerInfo (decision D17), not from here.
    """
    spec, status = service.get("spec") or {}, service.get("status") or {}
    if spec.get("type") == "LoadBalancer":
        ingress = (status.get("loadBalancer") or {}).get("ingress") or ()
        found = [("IPAddress", each.get("ip")) for each in ingress if each.get("ip")]
        found += [("Hostname", each.get("hostname")) for each in ingress if each.get("hostname")]
        return tuple(found)
    return tuple(("IPAddress", each) for each in spec.get("clusterIPs") or () if each and each != "None")


def own_status(gateway: Gateway, facts: OwnFacts) -> dict[str, Any]:
    """The status to apply."""
    if facts.problem:
        conditions = (
            no(ACCEPTED, "InvalidParameters", facts.problem),
            no(PROGRAMMED, "Invalid", "it is not run as it says"),
        )
    else:
        programmed = (
            yes(PROGRAMMED, "Programmed", "its Service has an address")
            if facts.addresses
            else no(PROGRAMMED, "AddressNotAssigned", "its Service has no address yet; look at its events")
        )
        conditions = (yes(ACCEPTED, "Accepted", "peerd runs and configures it"), programmed)
    found = {"conditions": status_tree(conditions, gateway.metadata.generation)}
    if facts.problem and not facts.addresses:
        return found  # maybe another's
    # What ran before goes on where something is wrong now, and peers are told its addresses from here.
    addresses = [{"type": kind, "value": value} for kind, value in facts.addresses]
    return {"addresses": addresses, **found}
