"""All that is generated for the own cluster, put together: what `Commit.generated` is made of."""

from typing import Any

from peerd.derive.engine import Collection, Context, Engine, Input
from peerd.derive.generated_places import Places
from peerd.derive.generated_services import GeneratedServices
from peerd.derive.generated_workloads import GeneratedWorkloads
from peerd.derive.global_services import GlobalServices
from peerd.derive.hostnames import Hostnames
from peerd.derive.mesh import Mesh
from peerd.derive.namespaces import NamespaceFacts
from peerd.derive.problems import keyed, warning
from peerd.derive.scope import TAKEOVER
from peerd.derive.scoped import Scoped
from peerd.derive.segments import Segments
from peerd.model.diagnostic import Diagnostic
from peerd.model.federation import Takeover
from peerd.model.generated import Generate, IstiodFlags
from peerd.model.kube.core import Service
from peerd.model.mesh import Settings
from peerd.model.workload import Workload


class Generation:
    """`tables` hold Generated records under `<Kind>/<namespace>/<name>`.

    Standalone the ServiceEntries alone: the record of addresses and takeovers, and what policies attach to.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        settings: Settings,
        mesh: Mesh,
        segments: Segments,
        namespaces: Input[str, NamespaceFacts],
        objects: Input[str, Service],
        names: GlobalServices,
        hostnames: Hostnames,
        flags: Collection[str, IstiodFlags],
        remote: Collection[str, Workload],
    ) -> None:
        places = Places(
            engine,
            settings=settings,
            mesh=mesh,
            namespaces=namespaces,
            names=names,
            hostnames=hostnames,
            flags=flags,
        )
        services = GeneratedServices(
            engine,
            settings=settings,
            segments=segments,
            namespaces=namespaces,
            objects=objects,
            names=names,
            hostnames=hostnames,
            places=places,
        )
        self.tables: list[Collection[str, Any]] = [services.table]
        self.diagnostics: list[Collection[str, Diagnostic]] = []
        if settings.generate.for_istiod:
            workloads = GeneratedWorkloads(engine, services=services, imports=names.imports, workloads=remote)
            self.tables.append(workloads.table)
            self.diagnostics += [
                services.diagnostics,
                engine.derive_many("istiod's flags", flags, _flags),
            ]
        # A name is taken over beside istiod only once its Service is gone: that it asked is noted before.
        self.takeovers: Collection[str, Takeover] = names.takeovers
        if settings.generate is Generate.BESIDE:
            asked = engine.derive("takeovers asked beside istiod", names.scoped, _asked)
            self.takeovers = engine.union("takeovers to note", names.takeovers, asked)
            self.diagnostics.append(
                engine.derive_many("takeovers that istiod cannot serve", names.scoped, _takeover)
            )


def _asked(_ctx: Context, _key: str, found: Scoped) -> Takeover | None:
    return Takeover(found.reach.by_rule) if found.reach.takeover else None


def _takeover(_ctx: Context, key: str, found: Scoped) -> dict[str, Diagnostic]:
    if not found.reach.takeover:
        return {}
    text = "beside istiod the name of a Service is not taken over: istiod gives a Service no identities"
    fix = "call its global name, or delete the Service where all endpoints are elsewhere"
    return keyed((warning(f"Service/{key}", f"metadata.labels[{TAKEOVER}]", text, fix),), "beside")


def _flags(_ctx: Context, _key: str, flags: IstiodFlags) -> dict[str, Diagnostic]:
    if flags.safe:
        return {}
    fix = (
        "set PILOT_ENABLE_K8S_SELECT_WORKLOAD_ENTRIES=false and AMBIENT_ENABLE_MULTI_NETWORK=false on istiod;"
        " until then global names have no endpoints of this cluster"
    )
    where = flags.where or "Deployment/istiod"
    return keyed((warning(where, "spec.template", flags.problem, fix),), "istiod")
