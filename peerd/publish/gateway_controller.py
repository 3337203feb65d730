"""Keeps what runs the cluster's own east-west gateways: class `istio-eastwest` (decisions D33, D39).

Nobody watches Deployments or parameters: they are looked at again and again, a handful of objects. What is
not wanted any more goes only after the source has told all Gateways, and only if it is ours.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import structlog
import yaml

from peerd.derive.gateway_config import is_own
from peerd.kubeapi.base import ApiUnreachableError
from peerd.kubeapi.errors import ApiError
from peerd.kubeapi.objects import KubeObjects
from peerd.kubeapi.resources import CONFIG_MAP, SERVICE
from peerd.model.kube.gateway import Gateway
from peerd.model.kube.meta import ObjectKey
from peerd.publish.gateway_workloads import (
    RESOURCES,
    Installation,
    ParameterError,
    workloads,
)
from peerd.publish.own_gateway_status import OwnFacts, service_addresses
from peerd.publish.permit import Permit
from peerd.publish.ref import Ref
from peerd.publish.writer import Writer

log = structlog.get_logger("peerd.gateways")

_LOOK = 5.0  # seconds between two looks at parameters and addresses


class GatewayController:
    """Call from one event loop.

    Args:
        objects: the API server.
        writer: takes what is wanted.
        permit: only who writes looks.
        installation: what all gateways have in common.
        changed: called with a Gateway of which `facts` may be otherwise now.
        other_roots: gives the roots of other trust domains, PEM by name.
        look: seconds between two looks.
    """

    def __init__(
        self,
        objects: KubeObjects,
        writer: Writer,
        permit: Permit,
        installation: Installation,
        changed: Callable[[ObjectKey], None],
        *,
        other_roots: Callable[[], Mapping[str, bytes]] = dict,
        look: float = _LOOK,
    ) -> None:
        self._objects = objects
        self._writer = writer
        self._permit = permit
        self._installation = installation
        # In order and once: all of them are looked at in every round.
        self._namespaces = tuple(dict.fromkeys((installation.system_namespace, *installation.namespaces)))
        self._changed = changed
        self._other_roots = other_roots
        self._look = look
        self._gateways: dict[ObjectKey, Gateway] = {}
        self._wanted: dict[ObjectKey, frozenset[Ref]] = {}
        self._facts: dict[ObjectKey, OwnFacts] = {}
        self._gone: set[ObjectKey] = set()
        self._troubles: dict[str, str] = {}  # by namespace, as they were logged
        self._settled = False
        self._wake = asyncio.Event()

    def object(self, key: ObjectKey, found: Gateway | None) -> None:
        """A Gateway of the source; None: it was deleted."""
        if found is not None and is_own(found) and not found.metadata.deletion_timestamp:
            self._gateways[key] = found
            self._gone.discard(key)
        elif self._gateways.pop(key, None) is not None:
            self._gone.add(key)
        else:
            return
        self._wake.set()

    def settle(self) -> None:
        """All Gateways that there are have been told."""
        self._settled = True
        self._wake.set()

    def facts(self, key: ObjectKey) -> OwnFacts | None:
        """What the status of a Gateway says; None where nothing is known yet, or it is not ours."""
        return self._facts.get(key)

    async def run(self) -> None:
        """Look and want, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(self._look):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            if self._settled and self._permit.remaining() > 0:
                await self._bring()

    async def _bring(self) -> None:
        for namespace in self._namespaces:
            try:
                await self._bring_in(namespace)
            except ApiError as error:
                self._trouble(namespace, error)  # a Role may be missing in one of them: the others go on
            except ApiUnreachableError as error:
                self._trouble(namespace, error)
                return
            else:
                self._troubles.pop(namespace, None)
        for key in sorted(self._gateways.keys() | self._gone, key=str):
            if key.namespace not in self._namespaces:
                self._bring_elsewhere(key)

    async def _bring_in(self, namespace: str) -> None:
        for resource in RESOURCES:
            await self._writer.load(resource, namespace=namespace)
        for key in [each for each in self._gone if each.namespace == namespace]:
            self._gone.discard(key)
            for ref in self._wanted.pop(key, frozenset()):
                self._writer.want(ref, None, order=RESOURCES.index(ref.resource))
            self._facts.pop(key, None)
        for key, gateway in list(self._gateways.items()):
            if key.namespace == namespace:
                self._tell(key, await self._one(key, gateway))
        # What an earlier process made for a Gateway that has gone since.
        for ref in self._writer.unspoken():
            if ref.resource in RESOURCES and ref.namespace == namespace and not ref.subresource:
                self._writer.want(ref, None, order=RESOURCES.index(ref.resource))

    def _bring_elsewhere(self, key: ObjectKey) -> None:
        if key in self._gone:
            self._gone.discard(key)
            self._facts.pop(key, None)
            return
        where = ", ".join(self._namespaces)
        problem = f"peerd runs gateways in {where} only; move it, or see --gateway-namespaces"
        self._tell(key, OwnFacts(problem=problem))

    def _trouble(self, namespace: str, error: ApiError | ApiUnreachableError) -> None:
        """Once: it is looked at again every few seconds."""
        if self._troubles.get(namespace) != str(error):
            self._troubles[namespace] = str(error)
            log.warning("gateways_not_looked_at", namespace=namespace, reason=str(error))

    async def _one(self, key: ObjectKey, gateway: Gateway) -> OwnFacts:
        try:
            parameters = await self._parameters(gateway)
            made = workloads(gateway, parameters, self._installation, self._other_roots())
        except ParameterError as error:
            return OwnFacts(problem=f"its parameters cannot be used: {error}")
        for ref, manifest in made.items():
            self._writer.want(ref, manifest, order=RESOURCES.index(ref.resource), exact=False)
        for ref in self._wanted.get(key, frozenset()) - made.keys():
            self._writer.want(ref, None, order=RESOURCES.index(ref.resource))
        self._wanted[key] = frozenset(made)
        service = await self._objects.get(SERVICE, key.namespace, key.name)
        return OwnFacts(addresses=() if service is None else service_addresses(service))

    async def _parameters(self, gateway: Gateway) -> dict[str, Any]:
        """What the ConfigMap of the Gateway says; nothing where it names none.

        Raises:
            ParameterError: it names something else, or what is no YAML.
            ApiError, ApiUnreachableError: it could not be read.
        """
        reference = gateway.spec.infrastructure.parameters_ref
        if reference is None:
            return {}
        if (reference.group, reference.kind) != ("", "ConfigMap"):
            named = f"{reference.kind} {reference.name}"
            raise ParameterError(f"spec.infrastructure.parametersRef: {named} is no ConfigMap; name one")
        found = await self._objects.get(CONFIG_MAP, gateway.metadata.namespace, reference.name)
        if found is None:
            raise ParameterError(f"there is no ConfigMap {reference.name}; make it, or name another")
        parameters = {}
        for name, text in (found.get("data") or {}).items():
            try:
                parameters[name] = yaml.safe_load(text) or {}
            except yaml.YAMLError as error:
                problem = " ".join(str(error).split())
                raise ParameterError(f"ConfigMap {reference.name}, {name}: is no YAML: {problem}") from error
        return parameters

    def _tell(self, key: ObjectKey, facts: OwnFacts) -> None:
        if self._facts.get(key) != facts:
            self._facts[key] = facts
            self._changed(key)
