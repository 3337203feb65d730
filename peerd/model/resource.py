"""What the resource store holds: a name and its final bytes."""

from peerd.model.address import NetworkAddress
from peerd.model.record import Record

Alias = str | NetworkAddress
"""A key of look-ups; an address stands for its `key()`, which is made only when somebody looks."""


class Resource(Record, frozen=True):
    """One encoded resource.

    `frame` is the whole of field 2 of a DeltaDiscoveryResponse (tag, length, `Resource` message with name,
    version and payload), so that an answer is made by joining frames. `version` is the lower-case hex of the
    xxh64 of the payload (decision D11). `aliases` and `groups` serve on-demand streams only: aliases are the
    keys a look-up may use instead of the name (`<network>/<ip>`), groups are the sets a stream may follow
    (`node/<node>`, `service/<namespace>/<hostname>`). `revives` is the group whose members every client is
    sent again, after this resource, once it has come to name it: what it may have thrown away before
    (wire-contract §3.2).
    """

    name: str
    version: str
    frame: bytes
    aliases: tuple[Alias, ...] = ()
    groups: tuple[str, ...] = ()
    revives: str = ""

    def alias_keys(self) -> tuple[str, ...]:
        """The aliases as clients write them."""
        return tuple([alias if isinstance(alias, str) else alias.key() for alias in self.aliases])


class ResourceChange(Record, frozen=True):
    """A resource put, or with None removed, under one type URL."""

    type_url: str
    name: str
    resource: Resource | None
