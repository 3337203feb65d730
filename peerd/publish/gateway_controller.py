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
from peerd.derive.gateways import gateway_service_account
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
from peerd.publish.ref import Ref, observed
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
        here = [(key, gateway) for key, gateway in self._gateways.items() if key.namespace == namespace]
        accounts: dict[str, str] = {}
        unclear = False
        for key, gateway in sorted(
            here, key=lambda each: (each[1].metadata.creation_timestamp, each[0].name)
        ):
            name = gateway_service_account(gateway)
            other = accounts.setdefault(name, key.name)
            facts = await self._one(key, gateway, other if other != key.name else "")
            unclear = unclear or bool(facts.problem)
            self._tell(key, facts)
        if unclear:
            return  # what an earlier process made may be of a Gateway that says nothing usable now
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

    async def _one(self, key: ObjectKey, gateway: Gateway, other: str) -> OwnFacts:
        """Want what runs a Gateway, whose account an older one, *other*, has already, or nobody."""
        problem = ""
        try:
            _check_account(gateway, other)
            self._want(key, gateway, await self._parameters(gateway))
        except ParameterError as error:
            problem = f"it cannot be run as it says: {error}"
        refused = {notice.ref: notice.message for notice in self._writer.problems()}
        for ref in sorted(
            self._wanted.get(key, frozenset()), key=lambda each: RESOURCES.index(each.resource)
        ):
            if ref in refused and not problem:
                problem = f"{ref} is not as it says: {refused[ref]}"
        service = await self._objects.get(SERVICE, key.namespace, key.name)
        ours = service is not None and observed(service).ours
        return OwnFacts(addresses=service_addresses(service) if service and ours else (), problem=problem)

    def _want(self, key: ObjectKey, gateway: Gateway, parameters: dict[str, Any]) -> None:
        """Raises ParameterError where nothing can be made of it; then what there is stays."""
        made = workloads(gateway, parameters, self._installation, self._other_roots())
        for ref, manifest in made.items():
            self._writer.want(ref, manifest, order=RESOURCES.index(ref.resource), exact=False)
        for ref in self._wanted.get(key, frozenset()) - made.keys():
            self._writer.want(ref, None, order=RESOURCES.index(ref.resource))
        self._wanted[key] = frozenset(made)

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


def _check_account(gateway: Gateway, other: str) -> None:
    if other:
        raise ParameterError(
            f"account {gateway_service_account(gateway)} is that of Gateway {other}, too, and each could pass"
            " for the other; give it its own by annotation gateway.istio.io/service-account"
        )
