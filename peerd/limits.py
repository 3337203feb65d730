"""Every limit of peerd, with its reason. What reaches one counts it here, and `/metrics` shows the count."""

from collections import Counter
from typing import NamedTuple


class Limit(NamedTuple):
    """A bound on something that could otherwise grow: its name in metrics and logs, its value, and why."""

    name: str
    value: int
    unit: str
    reason: str


MERGE_WINDOW_MS = Limit(
    "merge_window",
    10,
    "ms",
    "D10: opened by the first change, never extended: one message for a replaced Pod, and bounded latency",
)
SLICE_MS = Limit(
    "slice",
    4,
    "ms",
    "derivation and encoding give the event loop back this often: no stream waits for a big batch (D3)",
)
TYPES_PER_STREAM = Limit(
    "types_per_stream", 16, "types", "a client uses at most four; each costs one subscription record"
)
SOURCE_FILE_BYTES = Limit(
    "source_file_bytes",
    64 * 1024 * 1024,
    "bytes",
    "D7: a manifest is parsed as a tree in memory; larger files are a mistake or belong to an API server",
)
SOURCE_ALIASES = Limit(
    "source_aliases",
    10,
    "values per byte",
    "D7: a file without aliases has fewer values than bytes; a few hundred bytes of them can mean billions",
)
LIST_PAGE_OBJECTS = Limit(
    "list_page_objects",
    500,
    "objects",
    "one page of a list is held whole; 500 Pods are about 3 MB, and what kubectl asks for too",
)
API_LINE_BYTES = Limit(
    "api_line_bytes",
    16 * 1024 * 1024,
    "bytes",
    "one event of a watch; etcd keeps no object over 1.5 MiB, JSON is at most a few times that",
)
API_ANSWER_BYTES = Limit(
    "api_answer_bytes",
    256 * 1024 * 1024,
    "bytes",
    "one answer of the API server, held whole; a page of a list is a hundredth of that",
)
TOKEN_REVIEWS_KEPT = Limit(
    "token_reviews_kept",
    20_000,
    "tokens",
    "reviewed tokens by their digest, good ones for a minute; each ztunnel shows one, each node runs one",
)
TOKEN_REVIEWS_AT_ONCE = Limit(
    "token_reviews_at_once",
    64,
    "reviews",
    "asked of the API server at a time, so that a storm of reconnects is no storm there",
)
GENERATED_BYTES = Limit(
    "generated_bytes",
    1_000_000,
    "bytes",
    "etcd takes 1.5 MiB with metadata: a larger ServiceEntry (10,000 identities) would be refused for ever",
)

CA_FILE_BYTES = Limit(
    "ca_file_bytes", 1024 * 1024, "bytes", "a Secret of Kubernetes holds no more, and so no CA file does"
)
CSR_BYTES = Limit(
    "csr_bytes", 64 * 1024, "bytes", "the largest real request, with an RSA 8192 key, is under 4 KiB of PEM"
)
CSR_RSA_BITS = Limit(
    "csr_rsa_bits",
    8_192,
    "bits",
    "the largest RSA key that is in use; the cost of a signature grows with the square of it and more",
)
TOKEN_BYTES = Limit(
    "token_bytes", 16 * 1024, "bytes", "a projected token has about 1 KiB; larger ones are an attack"
)
CSRS_WAITING = Limit(
    "csrs_waiting",
    4096,
    "requests",
    "each waits for its signature in memory; ztunnels keep at most 8 in flight, and retry with backoff",
)

PEER_VERSION_MAP_BYTES = Limit(
    "peer_version_map_bytes",
    3 * 1024 * 1024,
    "bytes",
    "a version map goes in one message of at most 4 MiB; a longer one is not sent, the full sync is cheaper",
)
PEER_MESSAGE_BYTES = Limit(
    "peer_message_bytes",
    4 * 1024 * 1024,
    "bytes",
    "what a peer can make us hold before we know whether it makes sense",
)
PEER_FRAME_BYTES = Limit(
    "peer_frame_bytes",
    1024 * 1024,
    "bytes",
    "answers to peers are cut into messages of about this size: none fills a window for long",
)
PEER_RESOURCES = Limit(
    "peer_resources", 20_000, "resources", "per peer and type: ten times the largest cluster that is known of"
)
PEER_RESOURCE_BYTES = Limit(
    "peer_resource_bytes", 64 * 1024, "bytes", "a summary with 500 identities is under 32 KiB"
)
PEER_BYTES = Limit(
    "peer_bytes", 64 * 1024 * 1024, "bytes", "per peer: what all its resources may take together"
)
PEER_NAME_CHARACTERS = Limit(
    "peer_name_characters", 317, "characters", "<namespace>/<name>: 63 and 253 characters and the slash"
)
PEER_CHANGES = Limit(
    "peer_changes",
    2_000,
    "changes a second",
    "per peer, beyond its first sync: what a peer sends faster waits in its own stream, not in ours",
)
PEER_WORKLOADS = Limit(
    "peer_workloads",
    50_000,
    "resources",
    "per peer on our own network: one for each Pod of its global services; a third of the largest clusters",
)
PEER_UID_CHARACTERS = Limit(
    "peer_uid_characters",
    768,
    "characters",
    "the uid of a workload: cluster, kind, namespace, name and host, each at its longest",
)
PEER_DIALS = Limit(
    "peer_dials",
    100,
    "connections",
    "made at once: two thousand TLS handshakes in one breath end after their time-outs, and begin again",
)
PEER_ADDRESSES = Limit(
    "peer_addresses", 16, "addresses", "per Gateway, after DNS: what one round of dialling may try"
)
PEER_REFUSALS = Limit(
    "peer_refusals",
    1_000,
    "resources",
    "per peer: refused resources kept with their reasons for people to see; the rest is only counted",
)
PEER_REFUSED_BYTES = Limit(
    "peer_refused_bytes",
    16 * 1024 * 1024,
    "bytes",
    "per type: names and versions refused in one sync, kept for its digest: 50,000, then the stream ends",
)
PEER_REASON_CHARACTERS = Limit(
    "peer_reason_characters",
    4_096,
    "characters",
    "what a NACK to a peer says in all, and what is kept of one reason; enough to know what to mend",
)
PEER_METADATA_CHARACTERS = Limit(
    "peer_metadata_characters",
    253,
    "characters",
    "each of the names a stream opens with; none of cluster, instance, segment is longer than a DNS name",
)
PEER_CAPACITY = Limit(
    "peer_capacity",
    1_000_000,
    "endpoints",
    "per service, network and locality: more than any cluster runs; a larger number would draw all traffic",
)
PEER_REST_S = Limit(
    "peer_rest",
    90,
    "s",
    "D17: heartbeats say that a peer lives; its data may rest for a minute, unread or unanswered, no longer",
)
PEERS_INBOUND = Limit(
    "peers_inbound", 10_000, "streams", "served at once; each costs about 100 KiB with its TLS state"
)

CHANGE_LOG_NAMES = Limit(
    "change_log_names",
    200_000,
    "names",
    "D4: per type; a stream further behind is closed and resumes by its versions, which is cheaper",
)
RESPONSE_BYTES = Limit(
    "response_bytes",
    190 * 1024 * 1024,
    "bytes",
    "D9: ztunnel decodes at most 200 MiB a message; a longer answer comes in several",
)
REQUEST_BYTES = Limit(
    "request_bytes",
    64 * 1024 * 1024,
    "bytes",
    "a reconnect names all the client holds, 80 bytes each: 800,000 fit; over 80 MiB gRPC refuses uncounted",
)
NAMES_PER_STREAM = Limit(
    "names_per_stream",
    50_000,
    "names",
    "D4: what an on-demand stream follows is kept; a client that needs more uses the wildcard",
)
REJECTIONS_PER_STREAM = Limit(
    "rejections_per_stream", 1_000, "names", "each NACKed resource is kept with its reason until it changes"
)
REFUSAL_TEXT = Limit(
    "refusal_text",
    256 * 1024,
    "characters",
    "of one NACK: enough for every resource that is kept with its reason; what is longer is cut off",
)
NODE_METADATA_BYTES = Limit(
    "node_metadata_bytes",
    64 * 1024,
    "bytes",
    "what a client says of itself is kept as long as its stream; ztunnel needs one KiB",
)
ACK_OVERDUE_S = Limit(
    "ack_overdue",
    30,
    "s",
    "D8: from the end of the write; a live client answers in milliseconds",
)
WRITE_DEADLINE_S = Limit(
    "write_deadline",
    60,
    "s",
    "a far end that does not read holds one message in memory, and its share of first answers in flight",
)
FIRST_ANSWER_BYTES = Limit(
    "first_answer_bytes",
    192 * 1024 * 1024,
    "bytes",
    "D9: first answers written at once, each held once more by the transport; 256 MiB cost 328 MiB of memory",
)
FIRST_ANSWERS_WAITING = Limit(
    "first_answers_waiting",
    2_000,
    "streams",
    "D9: those past the bytes in flight wait in turn, and past this number are told to come again later",
)
NEW_STREAMS_PER_S = Limit(
    "new_streams_per_second",
    200,
    "streams/s",
    "a TLS handshake and a resume cost about 2 ms; clients back off on RESOURCE_EXHAUSTED",
)
STREAMS = Limit("streams", 20_000, "streams", "about 100 KiB each with TLS; more clients mean more replicas")
HTTP_CONNECTIONS = Limit(
    "http_connections",
    64,
    "connections",
    "probes, scrapes and debug views: a handful at once; more is an attack",
)
HTTP_HEADER_BYTES = Limit(
    "http_header_bytes",
    16 * 1024,
    "bytes",
    "a bearer token of 8 KiB and room; the port is open to the cluster",
)
HTTP_SECONDS = Limit(
    "http_seconds", 10, "s", "a request head or an answer that takes longer holds a connection for nothing"
)

KUBE_WRITES = Limit(
    "kube_writes",
    50,
    "writes/s",
    "to our own API server, after a burst of twice as many: what flaps here must not be felt there",
)
OBJECT_WRITES = Limit(
    "object_writes",
    5,
    "writes",
    "of one object at once, then one every 10 s: fifty flaps are a handful of writes",
)
KUBE_WRITE_S = Limit(
    "kube_write_seconds",
    5,
    "s",
    "for the answer to a write; shorter than the Lease, so that no write of ours comes after another's",
)

STATUS_NAMES = Limit(
    "status_names",
    20,
    "names",
    "clusters, and workloads outside the mesh, named in a Service's status; the rest is counted",
)
STATUS_MESSAGE_CHARACTERS = Limit(
    "status_message_characters",
    1_024,
    "characters",
    "of one condition or Event: what an API server takes of an Event, and as much as anybody reads",
)
EVENTS = Limit(
    "events",
    5,
    "Events/s",
    "to our own API server, after a burst of ten times as many; etcd keeps each for an hour",
)
EVENTS_PER_OBJECT = Limit(
    "events_per_object",
    10,
    "Events",
    "of one object at once, then one a minute: what flaps is told by its count",
)
EVENTS_WAITING = Limit(
    "events_waiting", 1_000, "Events", "kept while the API server does not take them; the oldest go first"
)
PROBES = Limit(
    "probes",
    10,
    "probes/s",
    "TLS handshakes with gateways of peers, about 2 ms of ours each: every 30 s up to 300 peers",
)

POD_SHAPES = Limit(
    "pod_shapes",
    65_536,
    "shapes",
    "labels and ports of Pods, kept once for all Pods alike; past it the table of copies starts anew",
)
GATEWAY_FIELDS = Limit(
    "gateway_fields",
    4_096,
    "gateways",
    "encoded waypoints and network gateways kept for the next workload; the least used is encoded anew",
)

# What Envoy keeps in our east-west gateways (encode/envoy_listeners.py, gateway/bootstrap.py); its own
# metrics, named in docs/operations.md, show when one was reached.
GATEWAY_CONNECTIONS = Limit(
    "gateway_connections",
    20_000,
    "connections",
    "to all ports of one replica; 10,000 nodes pool their tunnels to a gateway in one or two each",
)
GATEWAY_STREAMS = Limit(
    "gateway_streams",
    1_000,
    "tunnels",
    "at once on one connection: a node's pool opens another past 100, and what is announced binds everybody",
)
GATEWAY_TUNNELS = Limit(
    "gateway_tunnels",
    50_000,
    "tunnels",
    "of one replica to one name: each is a TCP connection, and an address has 28,000 ports to each Pod",
)
GATEWAY_RESETS = Limit(
    "gateway_resets",
    500,
    "streams",
    "once so many ended on a connection, most within a second, by reset: it is an attack (CVE-2023-44487)",
)
GATEWAY_HEADERS = Limit(
    "gateway_headers", 32, "headers", "a CONNECT of ztunnel has eight; each further one is work for nothing"
)
GATEWAY_HEADER_KIB = Limit(
    "gateway_header_kib", 8, "KiB", "baggage and forwarded are the longest headers of a CONNECT, under 1 KiB"
)
GATEWAY_EMPTY_FRAMES = Limit(
    "gateway_empty_frames", 1, "frames", "empty DATA in a row means nothing and costs work (CVE-2019-9518)"
)
GATEWAY_PRIORITY_FRAMES = Limit(
    "gateway_priority_frames", 10, "frames", "for each stream; nobody in the mesh sends any (CVE-2019-9513)"
)
GATEWAY_CONTROL_FRAMES = Limit(
    "gateway_control_frames",
    1_000,
    "frames",
    "answers to pings and settings that a far end lets pile up, and does not read (CVE-2019-9512)",
)
GATEWAY_HANDSHAKE_S = Limit(
    "gateway_handshake", 10, "s", "for the outer TLS handshake; slower than any round trip of one"
)
GATEWAY_HEAD_S = Limit(
    "gateway_head",
    10,
    "s",
    "for the whole of a CONNECT's headers, which are one frame: slower is a slow loris",
)
GATEWAY_IDLE_TUNNEL_S = Limit(
    "gateway_idle_tunnel",
    3_600,
    "s",
    "without a byte either way; as Envoy's proxies do in every mesh, so that applications know it",
)
GATEWAY_IDLE_CONNECTION_S = Limit(
    "gateway_idle_connection",
    900,
    "s",
    "without a tunnel; the next one costs a handshake, and a forgotten connection its buffers",
)
GATEWAY_WINDOW_BYTES = Limit(
    "gateway_window_bytes",
    4 * 1024 * 1024,
    "bytes",
    "sent ahead on a tunnel, four times that on a connection: 40 MB/s at 100 ms, and all that one can fill",
)
GATEWAY_BUFFER_BYTES = Limit(
    "gateway_buffer_bytes",
    1024 * 1024,
    "bytes",
    "kept for a far end that does not read, each way; then the sender waits",
)
GATEWAY_TRUST_BYTES = Limit(
    "gateway_trust_bytes",
    100_000,
    "bytes",
    "of other trust domains' roots in a gateway's environment, where Linux takes 128 KiB; 50 roots or more",
)
GATEWAY_LIMITS: tuple[Limit, ...] = (
    GATEWAY_CONNECTIONS,
    GATEWAY_STREAMS,
    GATEWAY_TUNNELS,
    GATEWAY_RESETS,
    GATEWAY_HEADERS,
    GATEWAY_HEADER_KIB,
    GATEWAY_EMPTY_FRAMES,
    GATEWAY_PRIORITY_FRAMES,
    GATEWAY_CONTROL_FRAMES,
    GATEWAY_HANDSHAKE_S,
    GATEWAY_HEAD_S,
    GATEWAY_IDLE_TUNNEL_S,
    GATEWAY_IDLE_CONNECTION_S,
    GATEWAY_WINDOW_BYTES,
    GATEWAY_BUFFER_BYTES,
)

LIMITS: tuple[Limit, ...] = (
    MERGE_WINDOW_MS,
    SLICE_MS,
    TYPES_PER_STREAM,
    POD_SHAPES,
    GATEWAY_FIELDS,
    SOURCE_FILE_BYTES,
    SOURCE_ALIASES,
    LIST_PAGE_OBJECTS,
    API_LINE_BYTES,
    API_ANSWER_BYTES,
    GENERATED_BYTES,
    GATEWAY_TRUST_BYTES,
    KUBE_WRITES,
    OBJECT_WRITES,
    KUBE_WRITE_S,
    STATUS_NAMES,
    STATUS_MESSAGE_CHARACTERS,
    EVENTS,
    EVENTS_PER_OBJECT,
    EVENTS_WAITING,
    PROBES,
    CA_FILE_BYTES,
    CSR_BYTES,
    CSR_RSA_BITS,
    TOKEN_BYTES,
    TOKEN_REVIEWS_KEPT,
    TOKEN_REVIEWS_AT_ONCE,
    CSRS_WAITING,
    PEER_VERSION_MAP_BYTES,
    PEER_MESSAGE_BYTES,
    PEER_FRAME_BYTES,
    PEER_RESOURCES,
    PEER_RESOURCE_BYTES,
    PEER_BYTES,
    PEER_NAME_CHARACTERS,
    PEER_WORKLOADS,
    PEER_UID_CHARACTERS,
    PEER_CHANGES,
    PEER_DIALS,
    PEER_ADDRESSES,
    PEER_REFUSALS,
    PEER_REFUSED_BYTES,
    PEER_REASON_CHARACTERS,
    PEER_METADATA_CHARACTERS,
    PEER_CAPACITY,
    PEER_REST_S,
    PEERS_INBOUND,
    CHANGE_LOG_NAMES,
    RESPONSE_BYTES,
    REQUEST_BYTES,
    NAMES_PER_STREAM,
    REJECTIONS_PER_STREAM,
    REFUSAL_TEXT,
    NODE_METADATA_BYTES,
    ACK_OVERDUE_S,
    WRITE_DEADLINE_S,
    FIRST_ANSWER_BYTES,
    FIRST_ANSWERS_WAITING,
    NEW_STREAMS_PER_S,
    STREAMS,
    HTTP_CONNECTIONS,
    HTTP_HEADER_BYTES,
    HTTP_SECONDS,
)

_hits: Counter[str] = Counter()


def hit(limit: Limit, times: int = 1) -> None:
    """Count that *limit* stopped something."""
    _hits[limit.name] += times


def hits(limit: Limit) -> int:
    """How often *limit* stopped something since the process started."""
    return _hits[limit.name]
