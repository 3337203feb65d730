"""What a ztunnel is not told yet, for a peer that has not spoken may know better (decision D13)."""

from collections.abc import Callable, Collection, Iterable

import structlog

from peerd.derive.world import World
from peerd.model.kube.meta import ObjectKey
from peerd.model.types import ADDRESS

log = structlog.get_logger("peerd.withholding")


class Withholding:
    """The `withheld` rules of ztunnel's types (peerd/protocol/rules.py).

    While a configured peer has neither synced nor expired, a name that it could own is not removed: a
    service of a global domain, a workload that is not ours. Where nothing was restored of such a peer, names
    that it could have taken over are kept too, and services that it could contribute to are not sent again
    in fewer words than the client holds, until their definition here changes.

    Args:
        cluster: our own cluster id; workloads under it are ours alone.
        domain: our cluster domain; services below `svc.<domain>` come from a peer only by takeover.
        global_domains: the domains of global services, ours and the peers'.
        unsynced: whether there is such a peer.
        forgotten: the Gateways of those of which nothing was restored.
        present: whether the store holds a name.
        world: derivation: what our own objects say.
    """

    def __init__(
        self,
        cluster: str,
        domain: str,
        *,
        global_domains: Callable[[], Collection[str]],
        unsynced: Callable[[], bool],
        forgotten: Callable[[], Collection[ObjectKey]],
        present: Callable[[str], bool],
        world: World,
    ) -> None:
        self._own = f"{cluster}/"
        self._local = f".svc.{domain}"
        self._global_domains = global_domains
        self._unsynced = unsynced
        self._forgotten = forgotten
        self._present = present
        self._world = world

    def active(self) -> bool:
        """Whether a configured peer has neither synced nor expired."""
        return self._unsynced()

    def __call__(self, type_url: str, name: str) -> bool:
        """Whether a client that holds *name*, in another version than ours, is told nothing of it now."""
        if type_url != ADDRESS or not self._unsynced():
            return False
        if name.count("/") != 1:  # a workload: `<namespace>/<hostname>` is a service, whatever our id is
            return not name.startswith(self._own) and not self._present(name)
        if self._may_be_global(name):
            return bool(self._forgotten()) if self._present(name) else True
        if not name.endswith(self._local) or not self._forgotten():
            return False
        return not self._present(name) or self._shared(name)

    def definition(self, _type_url: str, name: str) -> object:
        """What our own objects say of a service, whatever peers do; equal as long as they say the same."""
        return self._world.global_services.scoped.values.get(_key(name))

    def lingers(self, type_url: str, name: str) -> bool:
        """Whether a service that was removed may be one of a peer that has not spoken.

        Only services: of a remote workload its own peer has spoken, or its Gateway is gone.
        """
        return name.count("/") == 1 and self(type_url, name)

    def _may_be_global(self, name: str) -> bool:
        """Whether a service may be a global one: of a peer of which nothing is known no domain is, either."""
        if name.endswith(tuple(f".{each}" for each in self._global_domains())):
            return True
        namespace, _, host = name.partition("/")
        of_its_namespace = host.split(".")[1:2] == [namespace]  # `<name>.<namespace>.<some domain>`
        return of_its_namespace and not name.endswith(self._local) and bool(self._forgotten())

    def _shared(self, name: str) -> bool:
        """Whether a peer of which nothing is known may stand behind a local name too (decision D23)."""
        if name not in self._world.hostnames.table.values:
            return True  # no object of ours has that name: it is there because it was taken over
        scoped = self._world.global_services.scoped.values.get(_key(name))
        if scoped is not None and (scoped.reach.takeover or scoped.reach.opted_out):
            return scoped.reach.takeover
        gateways = self._world.gateways.remote.values
        found = (gateways.get(str(key)) for key in self._forgotten())
        return any(each is not None and each.metadata.annotations.peer_takeover == "true" for each in found)


class Waits:
    """Says which peers withheld names wait for: in the log when that changes, and to metrics."""

    def __init__(self) -> None:
        self.peers: tuple[str, ...] = ()

    def look(self, names: int, awaited: Iterable[ObjectKey]) -> None:
        """*names* are withheld from ztunnels at this moment, for these Gateways' peers have not spoken."""
        before, self.peers = self.peers, tuple(sorted(map(str, awaited))) if names else ()
        if self.peers == before:
            return
        if self.peers:
            log.warning("names_withheld", names=names, peers=self.peers)
        else:
            log.info("names_withheld_no_more", waited_for=before)


def _key(name: str) -> str:
    """`<namespace>/<name>` of the Service behind `<namespace>/<hostname>`."""
    namespace, _, host = name.partition("/")
    return f"{namespace}/{host.partition('.')[0]}"
