"""The delta machine against a dictionary: whatever a client does, it ends with what the server has.

Both ends are played step by step: commits, windows, requests, responses, ACKs and NACKs in any order, lost
streams, a restarted server, a change log that forgets. Three things must hold all along: a resource is not
sent twice without cause, ztunnel never holds a workload that names a policy it does not know, and after
everything was delivered the client has what the server has.
"""

from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from peerd.limits import ACK_OVERDUE_S, WRITE_DEADLINE_S
from peerd.model.resource import ResourceChange
from peerd.model.types import ADDRESS, AUTHORIZATION
from peerd.protocol.envelope import DeltaResponse, delta_request, parse_delta_request, parse_delta_response
from peerd.protocol.errors import BehindError
from peerd.protocol.interest import Interest
from peerd.protocol.server import DeltaServer
from peerd.resources.store import ResourceStore
from peerd.serve.ads import ztunnel_rules
from tests.support.delta import NODE, drop, policy, put, resource, ztunnel_store

WORKLOADS = ("w0", "w1", "w2", "w3", "w4")
POLICIES = ("ns/p0", "ns/p1", "ns/p2")
KEYS = (*WORKLOADS, "net/0", "net/1", "net/2", "net/nothing")
TYPES = (ADDRESS, AUTHORIZATION)


def policies_of(payload: bytes) -> set[str]:
    """The policies that a workload's payload names: `<serial> <policy> <policy>`."""
    return set(payload.decode().split()[1:])


class DeltaModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.serial = 0
        self.now = 1000.0
        self.world: dict[str, tuple[bytes, str]] = {}  # workload -> payload, alias
        self.policies: dict[str, bytes] = {}
        self.store = self.new_store()
        # The client's state survives its streams.
        self.held: dict[str, dict[str, tuple[str, bytes]]] = {url: {} for url in TYPES}
        self.rejected: set[str] = set()
        self.failures: list[str] = []
        self.server: DeltaServer | None = None

    def new_store(self) -> ResourceStore:
        self.interest = Interest()
        return ztunnel_store(log_names=8)

    # -- the server's world -------------------------------------------------------------------------------

    @initialize()
    def begin(self) -> None:
        self.commit_policy("ns/p0")
        self.put_workload("w0", ["ns/p0"], 0)
        self.close_window()

    @rule(name=st.sampled_from(WORKLOADS), named=st.lists(st.sampled_from(POLICIES)), alias=st.integers(0, 2))
    def put_workload(self, name: str, named: list[str], alias: int) -> None:
        known = " ".join(sorted(set(named) & self.policies.keys()))
        self.world[name] = (f"{self.next_serial()} {known}".encode(), f"net/{alias}")
        self.store.commit([self.workload(name)])

    @rule(name=st.sampled_from(WORKLOADS))
    def delete_workload(self, name: str) -> None:
        self.world.pop(name, None)
        self.store.commit([drop(name)])

    @rule(name=st.sampled_from(POLICIES))
    def commit_policy(self, name: str) -> None:
        self.policies[name] = str(self.next_serial()).encode()
        self.store.commit([policy(name, self.policies[name])])

    @rule(name=st.sampled_from(POLICIES), user=st.sampled_from(WORKLOADS))
    def add_policy_and_name_it(self, name: str, user: str) -> None:
        """One commit: a new policy and the workload that names it."""
        self.policies[name] = str(self.next_serial()).encode()
        self.world[user] = (f"{self.next_serial()} {name}".encode(), "net/0")
        self.store.commit([self.workload(user), policy(name, self.policies[name])])

    @rule(name=st.sampled_from(POLICIES))
    def delete_policy(self, name: str) -> None:
        """One commit: the policy goes, and no workload names it any longer, as derivation does it."""
        if self.policies.pop(name, None) is None:
            return
        changes = [drop(name, AUTHORIZATION)]
        for workload, (payload, alias) in self.world.items():
            if name in policies_of(payload):
                rest = " ".join(sorted(policies_of(payload) - {name}))
                self.world[workload] = (f"{self.next_serial()} {rest}".encode(), alias)
                changes.append(self.workload(workload))
        self.store.commit(changes)

    @rule()
    def close_window(self) -> None:
        for type_url, changes in self.store.close_window().items():
            self.interest.publish(type_url, changes)

    @rule()
    def restart_server(self) -> None:
        """The same content under other revisions; the stream is lost."""
        self.server = None
        self.store = self.new_store()
        self.store.commit([policy(name, body) for name, body in self.policies.items()])
        self.store.commit([self.workload(name) for name in self.world])
        self.close_window()

    # -- the client's streams -----------------------------------------------------------------------------

    @rule(
        versions=st.sampled_from(["true", "false", "partial", "empty", "none"]),
        on_demand=st.booleans(),
        swapped=st.booleans(),
    )
    def connect(self, versions: str, on_demand: bool, swapped: bool) -> None:
        if self.server is not None:
            self.server.close()
        self.server = DeltaServer(
            self.store,
            ztunnel_rules(),
            self.interest,
            ack_overdue=ACK_OVERDUE_S,
            write_deadline=WRITE_DEADLINE_S,
        )
        self.on_demand = on_demand
        self.asked: set[str] = set()
        self.excused: set[str] = set()
        self.unanswered: set[str] = set()  # keys whose answer may not have come yet
        self.pending: deque[DeltaResponse] = deque()
        self.old_nonces: list[str] = []
        for name in self.rejected:  # ztunnel does not say that it holds what it refused
            self.held[ADDRESS].pop(name, None)
        self.rejected = set()
        self.last: dict[tuple[str, str], str] = {}
        for url in reversed(TYPES) if swapped else TYPES:
            held = self.held[url]
            if versions in {"partial", "none"}:
                for name in sorted(held)[:: 2 if versions == "partial" else 1]:
                    del held[name]
            said = {name: version for name, (version, _) in held.items()}
            if versions == "empty":
                said = dict.fromkeys(said, "")
            elif versions == "false":
                said = dict.fromkeys((*said, "never-was"), "abc")
            else:
                self.last.update({(url, name): version for name, version in said.items()})
            star = ("*",) if on_demand and url == ADDRESS else ()
            self.request(delta_request(url, subscribe=star, unsubscribe=star, versions=said, node=NODE))
        if versions == "none":
            # Policies it forgot are unknown to it, and so are the workloads that named them.
            assert not self.held[ADDRESS]
            assert not self.held[AUTHORIZATION]
        elif versions == "partial":
            known = self.held[AUTHORIZATION].keys()
            for name, (_, payload) in list(self.held[ADDRESS].items()):
                if not policies_of(payload) <= known:
                    self.failures.append("partial")  # lost state, not the server's doing
                    del self.held[ADDRESS][name]
                    self.server = None
            if self.failures:
                self.failures.clear()

    @rule()
    def disconnect(self) -> None:
        if self.server is not None:
            self.server.close()
            self.server = None

    @precondition(lambda self: self.server is not None)
    @rule(key=st.sampled_from(KEYS))
    def ask(self, key: str) -> None:
        self.asked.add(key)
        self.unanswered.add(key)
        self.request(delta_request(ADDRESS, subscribe=[key]))

    @precondition(lambda self: self.server is not None)
    @rule(on=st.booleans())
    def switch_wildcard(self, on: bool) -> None:
        if on and self.on_demand:
            self.last = {}
            self.excused.update(WORKLOADS)
            self.on_demand = False
            self.request(delta_request(ADDRESS, subscribe=["*"]))

    @precondition(lambda self: self.server is not None)
    @rule()
    def deliver(self) -> None:
        self.receive()

    @precondition(lambda self: self.server is not None and self.pending)
    @rule()
    def accept(self) -> None:
        self.answer(set())

    @precondition(lambda self: self.server is not None and self.pending)
    @rule(which=st.integers(0, 3))
    def refuse(self, which: int) -> None:
        """NACK one resource of the oldest response; policies are always fine."""
        response = self.pending[0]
        if response.type_url == ADDRESS and response.resources:
            self.answer({response.resources[which % len(response.resources)].name})
        else:
            self.answer(set())

    @precondition(lambda self: self.server is not None)
    @rule(nonce=st.sampled_from(["made-up", "test-0-1"]), late=st.booleans())
    def say_something_stale(self, nonce: str, late: bool) -> None:
        """An ACK of what was never sent, or was ACKed long ago."""
        if late and self.old_nonces:
            nonce = self.old_nonces[0]
        if nonce not in {response.nonce for response in self.pending}:
            self.request(delta_request(ADDRESS, nonce=nonce))

    @rule(seconds=st.sampled_from([0.1, 1.5]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.server is not None)
    @rule()
    def come_to_rest(self) -> None:
        """Everything is delivered and accepted: the client has what the server has."""
        self.close_window()
        for _ in range(200):
            if self.server is None:
                return
            if self.pending:
                self.answer(set())
            elif not self.receive():
                break
        else:
            raise AssertionError("the machine never rests")
        if self.server is None:
            return
        self.unanswered.clear()
        self.excused.clear()
        policies = {name: resource(name, body).version for name, body in self.policies.items()}
        workloads = {name: resource(name, body).version for name, (body, _) in self.world.items()}
        has = {url: {name: version for name, (version, _) in self.held[url].items()} for url in TYPES}
        refused = self.rejected
        if not refused:
            assert has[AUTHORIZATION] == policies
        else:  # removals wait while a workload that may name a policy is refused
            assert policies.items() <= has[AUTHORIZATION].items()
        mine = {name: version for name, version in has[ADDRESS].items() if name not in refused}
        theirs = {name: version for name, version in workloads.items() if name not in refused}
        if not self.on_demand:
            assert mine == theirs
            return
        assert mine.items() <= theirs.items()
        for name, (_, alias) in self.world.items():
            if self.asked & {name, alias} and name not in refused:
                assert name in mine

    @invariant()
    def nothing_was_wrong(self) -> None:
        assert self.failures == []

    # -- plumbing -----------------------------------------------------------------------------------------

    def next_serial(self) -> int:
        self.serial += 1
        return self.serial

    def workload(self, name: str) -> ResourceChange:
        payload, alias = self.world[name]
        return put(name, payload, aliases=(alias,))

    def request(self, message: bytes) -> None:
        assert self.server is not None
        self.server.receive(parse_delta_request(message), self.now)

    def receive(self) -> bool:
        """One response reaches the client, which applies it at once and answers later."""
        assert self.server is not None
        try:
            outgoing = self.server.next(self.now)
        except BehindError:
            self.connect("true", self.on_demand, False)
            return True
        if outgoing is None:
            self.now += 1.1  # patience, in case something waits for it
            outgoing = self.server.next(self.now)
            if outgoing is None:
                return False
        self.server.written(self.now)
        response = parse_delta_response(outgoing.frame.message)
        for key in self.unanswered:
            self.excused.update((key, *self.store.collection(ADDRESS).resolve(key)))
        for each in response.resources:
            key = (response.type_url, each.name)
            if self.last.get(key) == each.version and each.name not in self.excused:
                self.failures.append(f"{each.name} was sent twice")
            self.last[key] = each.version
        for name in response.removed:
            self.last.pop((response.type_url, name), None)
        self.pending.append(response)
        return True

    def answer(self, refused: set[str]) -> None:
        """The client applies its oldest response, all but *refused*, and answers."""
        response = self.pending.popleft()
        held = self.held[response.type_url]
        for each in response.resources:
            if each.name in refused:
                self.rejected.add(each.name)
                continue
            held[each.name] = (each.version, each.payload)
            if response.type_url == ADDRESS:
                self.rejected.discard(each.name)
        for name in response.removed:
            held.pop(name, None)
            if response.type_url == ADDRESS:
                self.rejected.discard(name)
        known = self.held[AUTHORIZATION].keys()
        for name, (_, payload) in self.held[ADDRESS].items():
            if not policies_of(payload) <= known:
                self.failures.append(
                    f"{name} names {policies_of(payload) - known}, which ztunnel does not know"
                )
        self.old_nonces.append(response.nonce)
        error = "; ".join(f"{name}: bad" for name in refused) if refused else None
        self.request(delta_request(response.type_url, nonce=response.nonce, error=error))


TestDeltaModel = DeltaModel.TestCase
TestDeltaModel.settings = settings(max_examples=300, stateful_step_count=60)
