"""Peers that lie: what a cluster sends is changed on its way, and the importer must see that.

A lie about a resource is refused by name, for a reason in words, and nothing of it is held. What breaks the
protocol ends the connection. The other guarantees hold meanwhile, and all is well once the lying has stopped.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import msgspec

from peerd.api.envoy import discovery_pb2 as xds
from peerd.encode.address import decode_address, encode_address
from peerd.encode.peering import (
    encode_federated_service,
    encode_peer_info,
    encode_segment,
)
from peerd.limits import (
    PEER_CAPACITY,
    PEER_NAME_CHARACTERS,
    PEER_RESOURCE_BYTES,
    PEER_UID_CHARACTERS,
)
from peerd.model.address import Locality
from peerd.model.federation import Capacity, FederatedPort, FederatedService, PeerInfo, Segment
from peerd.model.resource import Resource
from peerd.model.types import ADDRESS, DELTA_METHOD, FEDERATED_SERVICE, PEER_INFO, SEGMENT
from peerd.model.workload import Workload
from peerd.protocol.envelope import parse_delta_response
from peerd.protocol.peer_wire import (
    HEARTBEAT_METHOD,
    SYNC_NAME,
    Sync,
    SyncState,
    decode_heartbeat,
    encode_heartbeat,
    encode_sync,
)

Response = Any  # a DeltaDiscoveryResponse of generated code
_FOREIGN = "spiffe://elsewhere/ns/shop/sa/web"


@dataclass(frozen=True)
class Lie:
    """`change` alters a response of `type_url` ("" for heartbeats), or returns False where it finds nothing.

    `name` is refused for a reason with `words` in it; without words the connection ends. A `harmless` one
    changes nothing. After `itself` the peer counts as the viewer's own cluster, until its Gateway is edited.
    """

    title: str
    type_url: str
    change: Callable[[Response, PeerInfo], str | None]
    words: str = ""
    harmless: bool = False
    itself: bool = False

    @property
    def told_instead_of(self) -> str:
        """The type of the response that is changed; of workloads and segments there are no others."""
        return FEDERATED_SERVICE if self.words else self.type_url


def _service(
    changed: Callable[[FederatedService, PeerInfo], FederatedService] = lambda service, _info: service,
    name: str = "",
    called: str = "lie",
) -> Callable[[Response, PeerInfo], str | None]:
    """Add a service *called* so, changed, as resource *name*, by default its own; that name is refused."""

    def change(response: Response, info: PeerInfo) -> str | None:
        if all(each.name == SYNC_NAME for each in response.resources):
            return None  # in the middle of a stream nothing is counted up
        good = FederatedService(
            name=called,
            namespace="shop",
            global_host=f"{called}.shop.{info.segment_domain}",
            local_host=f"{called}.shop.svc.cluster.local",
            ports=(FederatedPort(80),),
            identities=(f"spiffe://{info.trust_domain}/ns/shop/sa/web-{info.cluster}",),
        )
        lie = changed(good, info)
        message = _message(encode_federated_service(lie))
        message.resources[0].name = name or lie.resource_name
        response.resources.extend(message.resources)
        return str(message.resources[0].name)

    return change


def _replaced(called: str, **fields: Any) -> Callable[[Response, PeerInfo], str | None]:
    return _service(lambda service, _info: msgspec.structs.replace(service, **fields), called=called)


def _info(**fields: Any) -> Callable[[Response, PeerInfo], str | None]:
    """Say something else of itself."""

    def change(response: Response, info: PeerInfo) -> str | None:
        lie = msgspec.structs.replace(info, **fields)
        del response.resources[:]
        response.resources.extend(_message(encode_peer_info(lie)).resources)
        return "self"

    return change


def _workload(**fields: Any) -> Callable[[Response, PeerInfo], str | None]:
    """Add a workload; off flat networks there are none."""

    def change(response: Response, info: PeerInfo) -> str | None:
        lie = Workload(
            uid=f"{info.cluster}//Pod/shop/lie-{'-'.join(sorted(fields))}",
            name="lie",
            namespace="shop",
            cluster_id=info.cluster,
            network=info.network,
            addresses=(bytes((10, 0, 0, 99)),),
            trust_domain=info.trust_domain,
        )
        changed = msgspec.structs.replace(
            lie, **{key: value for key, value in fields.items() if key != "called"}
        )
        message = _message(encode_address(changed))
        message.resources[0].name = fields.get("called", changed.uid)
        assert decode_address(_payload(encode_address(changed)))
        response.resources.extend(message.resources)
        return str(message.resources[0].name)

    return change


def _segment(segment: Segment, name: str = "") -> Callable[[Response, PeerInfo], str | None]:
    def change(response: Response, _info: PeerInfo) -> str | None:
        message = _message(encode_segment(segment))
        message.resources[0].name = name or segment.name
        response.resources.extend(message.resources)
        return str(message.resources[0].name)

    return change


def _itself(response: Response, info: PeerInfo) -> str:
    """In the middle of a live stream: it is the viewer (of whom `info` is then)."""
    response.type_url = PEER_INFO
    _info()(response, info)
    return ""


def _sync_again(response: Response, _info: PeerInfo) -> str:
    """The types are in sync, and are so again."""
    message = xds.DeltaDiscoveryResponse.FromString(encode_sync(Sync(SyncState.COMPLETE, "any")))
    response.resources.extend(message.resources)
    return ""


def _nameless(response: Response, _info: PeerInfo) -> str:
    response.resources.add().version = "1"
    return ""


def _twice(response: Response, _info: PeerInfo) -> str:
    for _ in range(2):
        response.resources.add().name = "shop/twice"
    return ""


def _versions_wanted(response: Response, _info: PeerInfo) -> str | None:
    if any(each.name == SYNC_NAME for each in response.resources):
        return None  # only what comes when nothing was offered is wrong
    message = xds.DeltaDiscoveryResponse.FromString(encode_sync(Sync(SyncState.VERSIONS_WANTED)))
    response.resources.extend(message.resources)
    return ""


def _torn_sync(response: Response, _info: PeerInfo) -> str:
    del response.resources[:]
    torn = response.resources.add()
    torn.name, torn.resource.value = SYNC_NAME, b"\xff\xff"
    return ""


def _wrong_sum(response: Response, _info: PeerInfo) -> str | None:
    """A digest that nothing adds up to, in every answer until the connection ends."""
    for each in response.resources:
        if each.name == SYNC_NAME:
            message = xds.DeltaDiscoveryResponse.FromString(encode_sync(Sync(SyncState.COMPLETE, "wrong")))
            each.CopyFrom(message.resources[0])
            return "again"
    return None


def _unasked(response: Response, _info: PeerInfo) -> str:
    response.type_url = "type.googleapis.com/nobody.asked"
    return ""


def _later(message: bytes) -> bytes:
    return encode_heartbeat(decode_heartbeat(message) + 1000)


_LONG = "x" * int(max(PEER_NAME_CHARACTERS.value, PEER_UID_CHARACTERS.value))
_MUCH = Capacity("any", Locality("", "", ""), int(PEER_CAPACITY.value) + 1)
_F, _P, _W = FEDERATED_SERVICE, PEER_INFO, ADDRESS

LIES = (
    Lie("called otherwise", _F, _service(name="shop/other"), "is not called"),
    Lie("a long name", _F, _service(name=f"shop/{_LONG}"), "longer than"),
    Lie("no DNS name", _F, _service(called="Not_DNS"), "no DNS name"),
    Lie("in the system namespace", _F, _replaced("a", namespace="istio-system"), "system namespace"),
    Lie("a host of others", _F, _replaced("b", global_host="web.shop.elsewhere.internal"), "global_host"),
    Lie("a local host of others", _F, _replaced("c", local_host="db.bank.svc.cluster.local"), "local_host"),
    Lie("an alias that is none", _F, _replaced("d", aliases=("Not_DNS",)), "no DNS name"),
    Lie(
        "an alias of a service",
        _F,
        _replaced("e", aliases=("db.bank.svc.cluster.local",)),
        "where names belong",
    ),
    Lie("an identity that is none", _F, _replaced("f", identities=("web",)), "no SPIFFE id"),
    Lie(
        "an identity of others", _F, _replaced("g", identities=(_FOREIGN,)), "outside the peer's trust domain"
    ),
    Lie("a port named twice", _F, _replaced("h", ports=(FederatedPort(80),) * 2), "named twice"),
    Lie("more than it can have", _F, _replaced("i", capacity=(_MUCH,)), "not credible"),
    Lie("too large", _F, _replaced("j", distribution="x" * int(PEER_RESOURCE_BYTES.value)), "over quota"),
    Lie("another cluster", _P, _info(cluster="nobody")),
    Lie("another network", _P, _info(network="nowhere")),
    Lie("another trust domain", _P, _info(trust_domain="elsewhere")),
    Lie("a segment over everything", _P, _info(segment_domain="svc.cluster.local")),
    Lie("it is the viewer itself", _F, _itself, itself=True),
    Lie("in sync again", _F, _sync_again, harmless=True),
    Lie("a nameless resource", _F, _nameless),
    Lie("a name twice", _F, _twice),
    Lie("versions wanted again", _F, _versions_wanted),
    Lie("a torn sync", _P, _torn_sync),
    Lie("a sum that is wrong", _F, _wrong_sum),
    Lie("a type nobody asked for", _F, _unasked),
    Lie(
        "a segment called otherwise", SEGMENT, _segment(Segment("blue", "mesh.internal"), "red"), "not called"
    ),
    Lie("another segment", SEGMENT, _segment(Segment("blue", "blue.internal")), "not the one"),
    Lie("a workload called otherwise", _W, _workload(called="other"), "as its uid"),
    Lie("a workload with a long name", _W, _workload(uid=_LONG + "x", called=_LONG + "x"), "longer than"),
    Lie("a workload of others", _W, _workload(uid="other//Pod/shop/lie"), "own cluster"),
    Lie("a workload without a name", _W, _workload(name="Not_DNS"), "no DNS name"),
    Lie("a system workload", _W, _workload(namespace="istio-system"), "system namespace"),
    Lie("a workload trusted elsewhere", _W, _workload(trust_domain="elsewhere"), "trust domain"),
    Lie("a workload of no account", _W, _workload(service_account="Not_DNS"), "no DNS name"),
    Lie("a workload on another network", _W, _workload(network="nowhere"), "not the peer's"),
    Lie("a workload on a network of its own", _W, _workload(), "not on ours"),
    Lie("a wrong heartbeat", "", lambda _response, _info: ""),
    Lie("garbage for a heartbeat", "", lambda _response, _info: ""),
)


CHORUS: tuple[tuple[Lie, ...], ...] = tuple(
    tuple(lie for lie in LIES if lie.type_url == type_url and lie.words) for type_url in (_F, _W, SEGMENT)
)
"""What can be told in one breath."""


def draw_lies(random: Random) -> tuple[Lie, ...]:
    """One that stands alone, or many of one type at once."""
    if random.random() < 0.5:
        return random.choices(CHORUS, (4, 2, 1))[0]
    alone = [lie for lie in LIES if not lie.words]
    return (random.choices(alone, [4 if lie.itself or lie.harmless else 1 for lie in alone])[0],)


class Liar:
    """Tells *lies* once, in what one host sends to another; `told` once that has arrived.

    `names` are what the lies' resources were called; moments are virtual seconds.
    """

    def __init__(self, lies: tuple[Lie, ...], info: PeerInfo) -> None:
        self.lies = lies
        self.names: dict[str, Lie] = {}
        self.first_at = self.told_at = 0.0  # when it was first told, and last
        self._messages: set[bytes] = set()
        self._info = info
        self._over = False

    @property
    def told(self) -> bool:
        """Whether it has arrived."""
        return self.told_at > 0

    def arrived(self, message: bytes) -> None:
        """A message has come to whom is lied to."""
        if message in self._messages:
            self.told_at = asyncio.get_running_loop().time()
            self.first_at = self.first_at or self.told_at

    @property
    def lie(self) -> Lie:
        """The first of them."""
        return self.lies[0]

    def __call__(self, method: str, message: bytes) -> bytes:
        """The message as it will arrive."""
        if self._over or (method == HEARTBEAT_METHOD) is not (not self.lie.type_url):
            return message
        if method == HEARTBEAT_METHOD:
            self._over = True
            return self._tell(b"\xff\xff" if self.lie.title.startswith("garbage") else _later(message))
        if method != DELTA_METHOD:
            return message
        response = xds.DeltaDiscoveryResponse.FromString(message)
        if response.type_url != self.lie.told_instead_of:
            return message
        if self.lie.told_instead_of != self.lie.type_url:
            if all(each.name == SYNC_NAME for each in response.resources):
                return message  # in the middle of a stream nothing is counted up
            response.type_url = self.lie.type_url
            del response.resources[:]
        for lie in self.lies:
            name = lie.change(response, self._info)
            if name is None:
                return message
            self._over = name != "again"
            self.names[name] = lie
        return self._tell(bytes(response.SerializeToString()))

    def _tell(self, message: bytes) -> bytes:
        self._messages.add(message)
        return message


def _message(resource: Resource) -> Response:
    return xds.DeltaDiscoveryResponse.FromString(resource.frame)


def _payload(resource: Resource) -> bytes:
    (found,) = parse_delta_response(resource.frame).resources
    return found.payload
