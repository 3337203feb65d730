"""The one picture of a running peerd that health, metrics and debug endpoints are drawn from."""

from peerd.model.diagnostic import Diagnostic
from peerd.model.generated import IstiodFlags
from peerd.model.histogram import HistogramView
from peerd.model.record import Record
from peerd.peering.peers import PeerSnapshot
from peerd.serve.connections import TypeView


class StreamView(Record, frozen=True):
    """One stream of a client: who it says it is, who it proved to be, since when, what it follows.

    `kind` is that of the caller (peerd.model.caller); `proxy` is `<pod>.<namespace>` of the node id.
    """

    connection: str
    proxy: str
    kind: str
    identity: str
    address: str
    connected_at: float
    cluster: str = ""
    version: str = ""
    types: tuple[TypeView, ...] = ()


class CaView(Record, frozen=True):
    """The certificate service: requests by outcome since the start, and ends of validity in Unix seconds.

    `root_expiry` is the first end among the roots, `chain_expiry` that of the path that signs.
    """

    requests: int
    authentication_failures: int
    signing_errors: int
    root_expiry: float
    chain_expiry: float


class PublishingView(Record, frozen=True):
    """What this replica writes into its own cluster.

    `writes`: it holds the Lease; `holder` does. `pending` objects wait for a write; `requests` count by kind,
    verb and outcome, `events` by outcome; `leftovers` are Secrets of the classic multicluster.
    """

    writes: bool
    holder: str
    pending: int
    requests: tuple[tuple[str, str, str, int], ...] = ()
    events: tuple[tuple[str, int], ...] = ()
    leftovers: int = 0


class Snapshot(Record, frozen=True):
    """Everything at one moment. `not_ready` is why `/ready` says 503, empty once it says 200.

    `resources` counts what is served by type URL; `pushes` and `rejects` count responses sent and refused by
    type URL since the start; `withheld` names are held back from ztunnels until the peers of the Gateways
    `withheld_for` have spoken (decision D13); `convergence` is how long a change took until a stream was sent
    it; `started_at` and `taken_at` are Unix seconds.
    """

    cluster: str
    network: str
    trust_domain: str
    lineage: str
    instance: str
    revision: int
    started_at: float
    taken_at: float
    not_ready: str = ""
    streams: tuple[StreamView, ...] = ()
    peers: tuple[PeerSnapshot, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()
    resources: dict[str, int] = {}
    pushes: dict[str, int] = {}
    rejects: dict[str, int] = {}
    certificates_issued: int = 0
    ca: CaView | None = None
    publishing: PublishingView | None = None
    istiod: IstiodFlags | None = None
    convergence: HistogramView = HistogramView()
    withheld: int = 0
    withheld_for: tuple[str, ...] = ()
