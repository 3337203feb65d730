"""A ztunnel and the Pods around it, for impersonation."""

import msgspec

from peerd.model.caller import Caller, CallerKind
from peerd.model.identity import SpiffeId
from peerd.serve.pods import PodFacts, PodIndex

TRUSTED = {"istio-system/ztunnel"}
ZTUNNEL = Caller(CallerKind.WORKLOAD, SpiffeId("td", "istio-system", "ztunnel"), "zt-1", "u-1")
REVIEWS = "spiffe://td/ns/shop/sa/reviews"


class Pods(PodIndex):
    """ztunnel zt-1 and a reviews Pod on node n1, a ratings Pod on n2."""

    def __init__(self, **ztunnel: object) -> None:
        super().__init__()
        facts = {"uid": "u-1", "node": "n1", "service_account": "ztunnel", "failed": False, **ztunnel}
        self.known = {("istio-system", "zt-1"): msgspec.convert(facts, PodFacts)}
        self.running = {("n1", "shop", "reviews"), ("n2", "shop", "ratings"), ("", "shop", "reviews")}

    def pod(self, namespace: str, name: str) -> PodFacts | None:
        return self.known.get((namespace, name))

    def runs(self, node: str, namespace: str, service_account: str) -> bool:
        return (node, namespace, service_account) in self.running
