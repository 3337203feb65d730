"""The four views of what is exported (peerd/serve/peer_exports.py)."""

from itertools import product

from peerd.model.federation import FederatedService, FederationScope
from peerd.model.workload import Workload
from peerd.serve.peer_exports import PeerExports


def _service(name: str, scope: FederationScope) -> FederatedService:
    host = f"{name}.shop"
    return FederatedService(
        name=name,
        namespace="shop",
        global_host=f"{host}.mesh.internal",
        local_host=f"{host}.svc.cluster.local",
        scope=scope,
    )


async def test_revisions_only_grow_for_a_peer_that_is_shown_another_view() -> None:
    """Decision D24: its segment or its network may change while this process runs."""
    exports = PeerExports("epoch", "lineage")
    views = [exports.view(same_segment=s, same_network=n) for s, n in product((False, True), repeat=2)]
    await exports.encoded()

    def revisions() -> set[int]:
        return {view.store.revision for view in views}

    exports.commit([("shop/web", _service("web", FederationScope.GLOBAL))])
    assert revisions() == {1}
    exports.commit([("shop/pay", _service("pay", FederationScope.SEGMENT))])  # two of them only
    assert revisions() == {2}
    pod = Workload(uid="west//Pod/shop/web-1", name="web-1", namespace="shop", addresses=(b"\x0a\0\0\1",))
    exports.commit_workloads([(pod.uid, pod)], same_segment=True)  # one of them only
    assert revisions() == {3}
    exports.commit([("shop/web", None)])
    assert revisions() == {4}
    exports.close()
