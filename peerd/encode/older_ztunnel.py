"""Responses for ztunnels that reject what newer ones need (wire-contract §2.6)."""

import re

from peerd.api.envoy import discovery_pb2 as discovery
from peerd.api.istio import workload_pb2 as pb

_VERSION = re.compile(r"v?(\d+)\.(\d+)")
_PASSTHROUGH_SINCE = (1, 28)
_PASSTHROUGH = pb.LoadBalancing.Mode.PASSTHROUGH
# What a service with that mode has among its bytes; ours has this policy too, always.
_MARK = pb.LoadBalancing(
    mode=_PASSTHROUGH, health_policy=pb.LoadBalancing.HealthPolicy.ALLOW_ALL
).SerializeToString()


def rejects_passthrough(version: str) -> bool:
    """Whether a ztunnel that says it is of Istio *version* does; one that does not say is not thought old."""
    found = _VERSION.match(version)
    return found is not None and (int(found[1]), int(found[2])) < _PASSTHROUGH_SINCE


def without_passthrough(message: bytes) -> bytes:
    """A DeltaDiscoveryResponse of Address whose services have no mode where theirs is PASSTHROUGH.

    That is what they were before there was the mode. Versions stay: they name what the service is here.
    """
    if _MARK not in message:
        return message
    response = discovery.DeltaDiscoveryResponse.FromString(message)
    for each in response.resources:
        if _MARK in each.resource.value:
            address = pb.Address.FromString(each.resource.value)
            balancing = address.service.load_balancing
            if address.HasField("service") and balancing.mode == _PASSTHROUGH:
                balancing.mode = pb.LoadBalancing.Mode.UNSPECIFIED_MODE
                each.resource.value = address.SerializeToString(deterministic=True)
    return response.SerializeToString()
