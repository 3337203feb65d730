"""What a resuming ztunnel is not told yet, for a peer that has not spoken may know better (decision D13)."""

from collections.abc import Callable, Collection

from peerd.model.types import ADDRESS


class Withholding:
    """The `withheld` rule of ztunnel's types.

    While a configured peer has neither synced nor expired, a name that it could own is not removed: a
    service of a global domain, a workload that is not ours. Where nothing was restored of such a peer, names
    that it could have taken over are kept too, and global services are not sent again in fewer words than
    the client holds.

    Args:
        cluster: our own cluster id; workloads under it are ours alone.
        domain: our cluster domain; services below `svc.<domain>` come from a peer only by takeover.
        global_domains: the domains of global services, ours and the peers'.
        unsynced: whether there is such a peer.
        forgotten: whether there is one of which nothing was restored.
        present: whether the store holds a name.
    """

    def __init__(
        self,
        cluster: str,
        domain: str,
        *,
        global_domains: Callable[[], Collection[str]],
        unsynced: Callable[[], bool],
        forgotten: Callable[[], bool],
        present: Callable[[str], bool],
    ) -> None:
        self._own = f"{cluster}/"
        self._local = f".svc.{domain}"
        self._global_domains = global_domains
        self._unsynced = unsynced
        self._forgotten = forgotten
        self._present = present

    def __call__(self, type_url: str, name: str) -> bool:
        """Whether a client that holds *name*, in another version than ours, is told nothing of it now."""
        if type_url != ADDRESS or not self._unsynced():
            return False
        if name.count("/") != 1:  # a workload: `<namespace>/<hostname>` is a service, whatever our id is
            return not name.startswith(self._own) and not self._present(name)
        if name.endswith(tuple(f".{each}" for each in self._global_domains())):
            return self._forgotten() if self._present(name) else True
        return name.endswith(self._local) and not self._present(name) and self._forgotten()
