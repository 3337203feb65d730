"""The root that every workload must trust, as ConfigMap `istio-ca-root-cert` in every namespace.

Standalone only: beside an istiod it is istiod's (decision D33). Where the CA has a revocation list, ConfigMap
`istio-ca-crl` carries that; it stays when the list goes, for an older list is better than none.

The names belong to the mesh, not to whoever was there first: what an istiod left is taken over.
"""

import asyncio
from collections.abc import Iterable
from random import Random

import msgspec
import structlog

from peerd.ca.bundle import CRL, CaBundle
from peerd.kubeapi.base import ApiTransport, ApiUnreachableError
from peerd.kubeapi.continuity import Continuity
from peerd.kubeapi.errors import ApiError
from peerd.kubeapi.lists import Head
from peerd.kubeapi.objects import NOT_FOUND, KubeObjects
from peerd.kubeapi.reflector import Reflector, Target
from peerd.kubeapi.resources import CONFIG_MAP
from peerd.limits import KUBE_WRITE_S, KUBE_WRITES, OBJECT_WRITES, hit
from peerd.model.changes import Change, ObjectChange
from peerd.model.clock import Clock
from peerd.model.generated import FIELD_MANAGER, GENERATED_LABEL, GENERATED_VALUE
from peerd.model.kube.core import ConfigMap
from peerd.model.kube.meta import ObjectKey
from peerd.model.record import Record
from peerd.publish.names import REVOKED, ROOTS
from peerd.publish.pace import Bucket, retry_wait
from peerd.publish.permit import Permit

log = structlog.get_logger("peerd.roots")

ROOTS_KEY = "root-cert.pem"
_LEFT_OUT = frozenset({"kube-system", "kube-public", "kube-node-lease", "local-path-storage"})
_LABELS = {GENERATED_LABEL: GENERATED_VALUE, "istio.io/config": "true"}
_PER_OBJECT_SECONDS = 10.0
_LOOK = 1.0  # seconds between two looks whether the permit is held

_Data = dict[str, str]


class _Event(Record, frozen=True):
    object: ConfigMap


class RootConfigMaps:
    """Keeps the ConfigMaps as the CA has it. `namespaces` and `roots` may be called at any time.

    Args:
        transport: the API server.
        continuity: of this cluster.
        clock, random: as ever.
        permit: one of several replicas writes.
    """

    def __init__(
        self,
        transport: ApiTransport,
        *,
        continuity: Continuity,
        clock: Clock,
        random: Random,
        permit: Permit,
    ) -> None:
        self._transport = transport
        self._objects = KubeObjects(transport)
        self._continuity = continuity
        self._clock = clock
        self._random = random
        self._permit = permit
        self._namespaces: set[str] = set()
        self._wanted: dict[str, _Data] = {}
        self._live: dict[ObjectKey, _Data] = {}
        self._listed: set[str] = set()
        self._due: dict[ObjectKey, None] = {}
        self._wake = asyncio.Event()
        self._bucket = Bucket(KUBE_WRITES.value, KUBE_WRITES.value, clock.monotonic())
        self._buckets: dict[ObjectKey, Bucket] = {}
        self.written = 0

    async def run(self) -> None:
        """Follow and write until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for name in (ROOTS, REVOKED):
                target = Target((CONFIG_MAP,), field_selector=f"metadata.name={name}")
                handler = _Followed(name, self)
                reflector = Reflector(self._transport, target, handler, self._continuity, self._random)
                tasks.create_task(reflector.run())
            tasks.create_task(self._write_all())

    def namespaces(self, changes: Iterable[Change]) -> None:
        """Take the source's changes; all but those of Namespaces are passed over."""
        for change in changes:
            if not isinstance(change, ObjectChange) or change.kind != "Namespace":
                continue
            name = change.key.name
            ends = change.object is None or bool(change.object.metadata.deletion_timestamp)
            if ends or (name in _LEFT_OUT and name != self._continuity.namespace):
                self._namespaces.discard(name)
                for each in (ROOTS, REVOKED):
                    self._buckets.pop(ObjectKey(name, each), None)
            else:
                self._namespaces.add(name)
                for each in self._wanted:
                    self._look(ObjectKey(name, each))

    def roots(self, bundle: CaBundle) -> None:
        """The CA is this one now."""
        self._wanted = {ROOTS: {ROOTS_KEY: bundle.roots_text}}
        if bundle.crl:
            self._wanted[REVOKED] = {CRL: bundle.crl.decode("ascii", "replace")}
        self._look_at_all()

    # -- what there is -----------------------------------------------------------------------------------

    def found(self, key: ObjectKey, data: _Data | None) -> None:
        """A ConfigMap is like this now, or with None gone."""
        if data is None:
            self._live.pop(key, None)
        else:
            # The wanted text is held once, not once for each namespace.
            wanted = self._wanted.get(key.name)
            self._live[key] = wanted if data == wanted and wanted is not None else data
        self._look(key)

    def listed(self, name: str) -> None:
        """All ConfigMaps of *name* were found: what is not known is not there."""
        if name not in self._listed:
            self._listed.add(name)
            self._look_at_all()

    def _look_at_all(self) -> None:
        for namespace in sorted(self._namespaces):
            for name in self._wanted:
                self._look(ObjectKey(namespace, name))

    def _look(self, key: ObjectKey) -> None:
        wanted = self._wanted.get(key.name)
        listed = key.name in self._listed and key.namespace in self._namespaces
        if wanted is not None and listed and self._live.get(key) != wanted:
            self._due[key] = None
            self._wake.set()
        else:
            self._due.pop(key, None)

    # -- writing -----------------------------------------------------------------------------------------

    async def _write_all(self) -> None:
        failures = 0
        while True:
            await self._wake.wait()
            key = next(iter(self._due), None)
            if key is None:
                self._wake.clear()
                continue
            if self._permit.remaining() <= 0:
                await asyncio.sleep(_LOOK)
                continue
            now = self._clock.monotonic()
            wait = self._bucket.wait(now)
            if wait:
                hit(KUBE_WRITES)
                await asyncio.sleep(wait)
                continue
            del self._due[key]
            if not self._may_write(key, now):
                continue
            self._bucket.take(now)
            try:
                async with asyncio.timeout(min(float(KUBE_WRITE_S.value), self._permit.remaining())):
                    await self._write(key)
                failures = 0
            except (TimeoutError, ApiError, ApiUnreachableError) as error:
                self._due[key] = None  # behind the others
                failures += 1
                log.warning("root_not_written", config_map=str(key), reason=str(error) or "no answer")
                asked = error.retry_after if isinstance(error, ApiError) else 0.0
                await asyncio.sleep(max(asked, retry_wait(failures, self._random)))

    def _may_write(self, key: ObjectKey, now: float) -> bool:
        """Whether this object was not written too often; if it was, it has its turn later."""
        bucket = self._buckets.setdefault(
            key, Bucket(1 / _PER_OBJECT_SECONDS, float(OBJECT_WRITES.value), now)
        )
        wait = bucket.wait(now)
        if not wait:
            bucket.take(now)
            return True
        hit(OBJECT_WRITES)
        log.warning("root_fought_over", config_map=str(key), fix="find who else writes it: an istiod?")
        asyncio.get_running_loop().call_later(wait, self._look, key)
        return False

    async def _write(self, key: ObjectKey) -> None:
        wanted = self._wanted[key.name]
        manifest = {
            "metadata": {"namespace": key.namespace, "name": key.name, "labels": _LABELS},
            "data": wanted,
        }
        try:
            await self._objects.apply(CONFIG_MAP, manifest, manager=FIELD_MANAGER)
        except ApiError as error:
            if error.status == NOT_FOUND:  # the namespace went meanwhile; its own event says so
                return
            if "being terminated" in str(error):
                return
            raise
        self.written += 1
        self._live[key] = wanted


class _Followed:
    """`peerd.kubeapi.reflector.Handler` of the ConfigMaps of one name."""

    def __init__(self, name: str, maps: RootConfigMaps) -> None:
        self._name = name
        self._maps = maps

    def put(self, head: Head, raw: bytes | msgspec.Raw, *, event: bool) -> None:
        try:
            found = (
                msgspec.json.decode(raw, type=_Event).object
                if event
                else msgspec.json.decode(raw, type=ConfigMap)
            )
        except msgspec.ValidationError:
            self._maps.found(head.key, {})  # of a shape that no API server takes: to be overwritten
            return
        self._maps.found(head.key, found.data)

    def delete(self, key: ObjectKey) -> None:
        self._maps.found(key, None)

    def listed(self) -> None:
        self._maps.listed(self._name)

    def trouble(self, problem: str) -> None:
        if problem:
            log.warning("roots_not_followed", config_map=self._name, reason=problem)
