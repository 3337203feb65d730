"""A ztunnel as the wire contract has it: wildcard for both types, resumes with what it holds, backs off.

It is a process of its own on its cluster's node, so it goes on when its peerd pauses or dies.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from peerd.encode.address import decode_address
from peerd.encode.policy import decode_policy
from peerd.model.authorization import Authorization
from peerd.model.service import Service
from peerd.model.types import ADDRESS, AUTHORIZATION, DELTA_METHOD
from peerd.model.workload import Workload
from peerd.protocol.client import DeltaClient
from peerd.protocol.envelope import DeltaResponse, Node, delta_request
from peerd.transport.base import StreamClosed
from tests.simulation.network import SimChannel
from tests.simulation.replica import Replica

_LONGEST_BACKOFF = 15.0  # wire-contract §1.4


class Observer(Protocol):
    """Told of each response: before it is taken up, and after."""

    def before(self, client: "SimZtunnel", response: DeltaResponse) -> None: ...

    def after(self, client: "SimZtunnel", response: DeltaResponse) -> None: ...


class SimZtunnel:
    """One client; `run` never ends."""

    def __init__(
        self,
        name: str,
        cluster: str,
        connect: Callable[[], SimChannel],
        observer: Observer,
        *,
        on_demand: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.cluster = cluster
        self._connect = connect
        self._observer = observer
        self.on_demand = on_demand
        node = Node(id=f"ztunnel~10.0.0.1~{name}.istio-system~x", metadata={"NODE_NAME": "node-1"})
        self._machine = DeltaClient((ADDRESS, AUTHORIZATION), node, on_demand=(ADDRESS,) if on_demand else ())
        self.addresses: dict[str, Workload | Service] = {}
        self.policies: dict[str, Authorization] = {}
        self.connected_since = -1.0  # virtual seconds; -1 while there is no answered stream
        self.at = ""  # the host of the replica that it is connected to
        self.opened_at = -1.0  # and since when
        self.born = 0.0  # virtual seconds
        self.asked: Counter[str] = Counter()  # names it asked for once more on this stream
        self.rests = False
        self.rested_at = -1.0  # when it last went on after a rest

    def versions(self, type_url: str) -> dict[str, str]:
        """Name -> version of what it holds."""
        return dict(self._machine.versions(type_url))

    def due(self, type_url: str, expected: dict[str, str], replica: Replica) -> dict[str, str]:
        """Of everything that *replica* serves, what it must hold: on demand what it asked for, with the
        workloads of that, the Pods of its own node, and what it holds already (decision D12)."""
        if not self.on_demand or type_url != ADDRESS:
            return expected
        assert replica.peerd is not None
        store = replica.peerd.store.collection(ADDRESS)
        names = {name for name in self.on_demand if name in expected}
        waiting = [*names, *store.members("node/node-1")]
        while waiting:
            name = waiting.pop()
            names.add(name)
            waiting += [each for each in store.members(f"service/{name}") if each not in names]
        return {name: expected[name] for name in (*names, *self.addresses) if name in expected}

    async def run(self) -> None:
        """Connect, follow, and again for ever."""
        self.born = asyncio.get_running_loop().time()
        backoff = 1.0
        while True:
            channel = self._connect()
            try:
                stream = await channel.open(DELTA_METHOD, {"clusterid": self.cluster})
                self.at, self.opened_at = channel.host, asyncio.get_running_loop().time()
                self.asked.clear()
                for request in self._machine.start():
                    await stream.send(request)
                # What it holds it says by its versions.
                asked = [name for name in self.on_demand if name not in self.addresses]
                if asked:
                    await stream.send(delta_request(ADDRESS, subscribe=asked))
                while (message := await stream.receive()) is not None:
                    response = self._machine.receive(message)
                    lost = [name for name in response.removed if name in self._wanted()]
                    await stream.send(self._take(response))
                    if lost:  # the next connection to it asks for it
                        self.asked.update(lost)
                        await stream.send(delta_request(ADDRESS, subscribe=lost))
                    backoff = 1.0
            except StreamClosed:
                pass
            finally:
                self.connected_since = -1.0
                await channel.close()
            await asyncio.sleep(backoff)
            backoff = min(_LONGEST_BACKOFF, backoff * 2)

    def _wanted(self) -> list[str]:
        return [name for name in self.on_demand if name in self.addresses]

    def _take(self, response: DeltaResponse) -> bytes:
        self._observer.before(self, response)
        if response.type_url == AUTHORIZATION:
            for resource in response.resources:
                self.policies[resource.name] = decode_policy(resource.payload)
            for name in response.removed:
                self.policies.pop(name, None)
        else:
            for resource in response.resources:
                self.addresses[resource.name] = decode_address(resource.payload)
            for name in response.removed:
                self.addresses.pop(name, None)
        answer = self._machine.accept(response)
        if self.connected_since < 0 and self._machine.ready(ADDRESS) and self._machine.ready(AUTHORIZATION):
            self.connected_since = asyncio.get_running_loop().time()
        self._observer.after(self, response)
        return answer
