"""EndpointSlices: endpoints that are no Pods."""

from peerd.model.address import Port
from peerd.model.workload import Workload, WorkloadStatus
from tests.support.derived import derive
from tests.support.worlds import Seen

SLICE = """
    apiVersion: v1
    kind: Service
    metadata: {namespace: shop, name: s}
    spec: {clusterIP: 10.96.0.1, ports: [{name: a, port: 80}, {name: b, port: 81}]}
    ---
    apiVersion: discovery.k8s.io/v1
    kind: EndpointSlice
    metadata: {namespace: shop, name: s1, labels: {kubernetes.io/service-name: s}}
    addressType: IPv4
    endpoints:
    - {addresses: [192.0.2.1], conditions: {ready: false}}
    - {addresses: [192.0.2.2, 192.0.2.3]}
    - {addresses: [192.0.2.2]}
    - {addresses: []}
    - {addresses: [192.0.2.4, nonsense]}
    - {addresses: [192.0.2.5], targetRef: {kind: Node, name: n}}
    ports: [{name: a, port: 1}, {name: b, port: 2, protocol: UDP}, {name: other, port: 3}]
"""


def endpoints(seen: Seen) -> dict[str, Workload]:
    return {
        uid.rpartition("/")[2]: record
        for uid, record in seen.parts["addresses"].items()
        if isinstance(record, Workload)
    }


def test_endpoints_of_a_slice_that_are_no_pods_are_workloads() -> None:
    """One for each first address; the second time, empty and unreadable ones are left out."""
    found = endpoints(derive(SLICE))
    assert sorted(found) == ["192.0.2.1", "192.0.2.2", "192.0.2.5"]
    assert found["192.0.2.1"].status is WorkloadStatus.UNHEALTHY
    assert found["192.0.2.2"].status is WorkloadStatus.HEALTHY
    assert found["192.0.2.2"].addresses == (b"\xc0\x00\x02\x02", b"\xc0\x00\x02\x03")


def test_a_slices_tcp_ports_are_joined_with_the_services_by_name() -> None:
    """UDP and names the Service has not are left out."""
    assert endpoints(derive(SLICE))["192.0.2.1"].services[0].ports == (Port(80, 1),)
