"""The CA in a Secret of the system namespace (wire-contract §5.2): read, followed, made where there is none.

Secret `cacerts` is the operator's, Secret `istio-ca-secret` what a control plane made for itself. Which of
the two signs is decided once, at the start: a switch between unrelated roots in mid-flight would break every
connection of the mesh (decision D42 says how to rotate).
"""

import asyncio
import base64
import binascii
from collections.abc import Callable
from random import Random
from typing import Any

import msgspec
import structlog

from peerd.ca import authority
from peerd.ca.bundle import BundleError, CaBundle
from peerd.ca.rotation import expiry_warnings
from peerd.ca.secret import bundle_of
from peerd.kubeapi.base import ApiTransport
from peerd.kubeapi.continuity import Continuity
from peerd.kubeapi.errors import ApiError
from peerd.kubeapi.lists import Head
from peerd.kubeapi.objects import KubeObjects
from peerd.kubeapi.reflector import Reflector, Target
from peerd.kubeapi.resources import SECRET
from peerd.model.clock import Clock
from peerd.model.generated import FIELD_MANAGER
from peerd.model.kube.meta import ObjectKey
from peerd.publish.names import GIVEN_CA, SELF_MADE_CA

log = structlog.get_logger("peerd.ca")

_TYPE = "istio.io/ca-root"  # as istiod has it; a Secret's type never changes
_CONFLICT = 409
_DAY = 86_400.0

_Tree = dict[str, Any]


class CaSecret:
    """The CA of one Secret, kept current: `bundle` signs now, `problem` says why a newer one is not taken.

    Args:
        transport: the API server.
        name: `cacerts` or `istio-ca-secret`.
        bundle: what it holds.
        continuity: of this cluster; its namespace is where the Secret lies.
        clock, random: as ever.
    """

    def __init__(
        self,
        transport: ApiTransport,
        name: str,
        bundle: CaBundle,
        *,
        continuity: Continuity,
        clock: Clock,
        random: Random,
    ) -> None:
        self._transport = transport
        self._name = name
        self._continuity = continuity
        self._clock = clock
        self._random = random
        self._changed: Callable[[CaBundle], None] = _ignore
        self._faulty: Callable[[str], None] = _ignore
        self.bundle = bundle
        self.problem = ""

    async def watch(
        self,
        changed: Callable[[CaBundle], None],
        faulty: Callable[[str], None],
        *,
        expiring: Callable[[str], None] | None = None,
    ) -> None:
        """Follow the Secret until cancelled.

        *changed* hears of each new bundle, *faulty* of each new problem, and *expiring* once a day of
        certificates that end soon.
        """
        self._changed, self._faulty = changed, faulty
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow(self._name, self))
            if self._name != GIVEN_CA:
                tasks.create_task(self._follow(GIVEN_CA, _Rival(self._fault)))
            while True:
                await asyncio.sleep(_DAY)
                if expiring is not None:
                    for warning in expiry_warnings(self.bundle, self._clock.time()):
                        expiring(warning)

    async def _follow(self, name: str, handler: "CaSecret | _Rival") -> None:
        target = Target((SECRET,), self._continuity.namespace, f"metadata.name={name}")
        await Reflector(self._transport, target, handler, self._continuity, self._random).run()

    # -- `peerd.kubeapi.reflector.Handler` ---------------------------------------------------------------

    def put(self, _head: Head, raw: bytes | msgspec.Raw, *, event: bool) -> None:
        """The Secret as it is now."""
        tree = msgspec.json.decode(raw)
        try:
            bundle = _read(self._where, tree["object"] if event else tree, self._clock.time(), self._name)
        except BundleError as error:
            self._fault(f"{error}; the last good CA goes on signing")
            return
        self.problem = ""
        if bundle != self.bundle:
            self.bundle = bundle
            self._changed(bundle)

    def delete(self, _key: ObjectKey) -> None:
        """The Secret is gone: that is no reason to stop signing."""
        self._fault(f"{self._where}: is gone; its last content goes on signing until peerd restarts")

    def listed(self) -> None:
        """`Handler.listed`."""

    def trouble(self, problem: str) -> None:
        """It cannot be followed."""
        if problem:
            self._faulty(f"{self._where}: cannot be followed: {problem}")

    @property
    def _where(self) -> str:
        return f"Secret/{self._continuity.namespace}/{self._name}"

    def _fault(self, problem: str) -> None:
        if problem != self.problem:
            self.problem = problem
            self._faulty(problem)


class _Rival:
    """Follows Secret `cacerts` where another one signs."""

    def __init__(self, fault: Callable[[str], None]) -> None:
        self._fault = fault

    def put(self, head: Head, _raw: bytes | msgspec.Raw, *, event: bool) -> None:  # noqa: ARG002 (Handler's)
        self._fault(
            f"Secret/{head.key}: appeared while {SELF_MADE_CA} signs; to use it, add its root to"
            f" root-cert.pem of {SELF_MADE_CA}, wait until every workload has that, then restart peerd"
        )

    def delete(self, _key: ObjectKey) -> None:
        """Then there is none again."""

    def listed(self) -> None:
        """`Handler.listed`."""

    def trouble(self, _problem: str) -> None:
        """The same as the other Secret's."""


async def open_ca(
    transport: ApiTransport,
    *,
    organization: str,
    continuity: Continuity,
    clock: Clock,
    random: Random,
) -> CaSecret:
    """The cluster's CA: of Secret `cacerts`, else of `istio-ca-secret`, which is made where it is missing.

    Of several replicas that start together one makes the root and all use it.

    Raises:
        BundleError: a Secret is there and holds no CA that can sign.
        ApiError, ApiUnreachableError: it can be neither read nor made.
    """
    objects, namespace = KubeObjects(transport), continuity.namespace
    name, tree = GIVEN_CA, await objects.get(SECRET, namespace, GIVEN_CA)
    if tree is None:
        name = SELF_MADE_CA
        tree = await objects.get(SECRET, namespace, name)
        tree = tree or await _make(objects, namespace, organization, clock.time())
    bundle = _read(f"Secret/{namespace}/{name}", tree, clock.time(), name)
    return CaSecret(transport, name, bundle, continuity=continuity, clock=clock, random=random)


async def _make(objects: KubeObjects, namespace: str, organization: str, now: float) -> _Tree:
    root = authority.make_root(organization, now)
    files = authority.cacerts_files(root.certificate, root.key, (), (root.certificate,))
    manifest = {
        "metadata": {"namespace": namespace, "name": SELF_MADE_CA},
        "type": _TYPE,
        "data": {name: base64.b64encode(value).decode("ascii") for name, value in files.items()},
    }
    try:
        made = await objects.create(SECRET, manifest, manager=FIELD_MANAGER)
    except ApiError as error:
        found = await objects.get(SECRET, namespace, SELF_MADE_CA) if error.status == _CONFLICT else None
        if found is None:
            raise
        return found  # somebody else was first
    log.info("root_made", secret=f"{namespace}/{SELF_MADE_CA}")
    return made


def _read(where: str, tree: _Tree, now: float, name: str) -> CaBundle:
    try:
        data = {
            key: base64.b64decode(value, validate=True) for key, value in (tree.get("data") or {}).items()
        }
    except (binascii.Error, TypeError) as error:
        raise BundleError(f"{where}: data is not base64: {error}") from error
    return bundle_of(data, where, now, self_made=name == SELF_MADE_CA)


def _ignore(_what: object) -> None:
    """Nobody listens yet."""
