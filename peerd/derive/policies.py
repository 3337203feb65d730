"""Policies: what ztunnel is told, and which of them each workload lists (wire-contract §4.7, §4.8).

How one AuthorizationPolicy is converted is in authorization.py, PeerAuthentication in peer_authentication.py.
"""

from collections.abc import Mapping

from peerd.derive import labels
from peerd.derive.authorization import convert_policy
from peerd.derive.engine import Context, Engine, Input
from peerd.derive.mesh import ONLY, Mesh
from peerd.derive.peer_authentication import (
    convert_peer_authentication,
    policies_of,
    static_strict_policy,
)
from peerd.derive.problems import keyed
from peerd.model.authorization import Authorization
from peerd.model.diagnostic import Diagnostic
from peerd.model.kube.istio import AuthorizationPolicy, PeerAuthentication
from peerd.model.record import Record


class PolicyInfo(Record, frozen=True):
    """A converted policy, the labels it selects workloads by, and its problems.

    `selector` empty: every workload in its reach lists the policy; None: no workload does.
    """

    policy: Authorization | None
    selector: labels.Labels | None
    diagnostics: tuple[Diagnostic, ...]


class Policies:
    """All policies under their resource names, and who lists them."""

    def __init__(
        self,
        engine: Engine,
        *,
        revision: str,
        mesh: Mesh,
        authorizations: Input[str, AuthorizationPolicy],
        authentications: Input[str, PeerAuthentication],
    ) -> None:
        self._revision = revision
        self._mesh = mesh
        converted = engine.derive("authorization policies", authorizations, self._authorization)
        # As with services: found under the namespace and one pair of the selector, if it has any.
        self._selecting = engine.index(
            "policies by selector",
            converted,
            lambda key, info: (
                ()
                if info.selector is None or info.policy is None
                else ((key.partition("/")[0], *(info.selector[-1] if info.selector else ("", ""))),)
            ),
        )
        self._admitted = engine.derive("peer authentications", authentications, self._admit)
        self._by_namespace = engine.index(
            "peer authentications by namespace",
            self._admitted,
            lambda _key, policy: (policy.metadata.namespace,),
        )
        everywhere = engine.index("all peer authentications", self._admitted, lambda _key, _policy: (ONLY,))
        derived = engine.derive("converted peer authentications", self._admitted, self._authentication)
        self.wire = engine.union(
            "wire policies",
            engine.derive_many("sent authorization policies", converted, _sent),
            engine.derive_many("sent peer authentications", derived, _sent),
            engine.derive_many("the strict policy", everywhere, self._strict),
        )
        self.diagnostics = (
            engine.derive_many(
                "authorization policy diagnostics",
                converted,
                lambda _ctx, _key, info: keyed(info.diagnostics),
            ),
            engine.derive_many(
                "peer authentication diagnostics", derived, lambda _ctx, _key, info: keyed(info.diagnostics)
            ),
        )

    def _is_ours(self, ctx: Context, namespace: str, found: Mapping[str, str]) -> bool:
        return labels.in_revision(found, self._revision) and ctx.ask(self._mesh.selected, namespace)

    def _authorization(self, ctx: Context, _key: str, policy: AuthorizationPolicy) -> PolicyInfo | None:
        if not self._is_ours(ctx, policy.metadata.namespace, policy.metadata.labels):
            return None
        record, problems = convert_policy(policy, self._mesh.of(ctx).config.root_namespace)
        selector = policy.spec.selector
        wanted = None if selector is None else selector.match_labels
        return PolicyInfo(record, None if wanted is None else labels.freeze(wanted), problems)

    def _admit(self, ctx: Context, _key: str, policy: PeerAuthentication) -> PeerAuthentication | None:
        ours = self._is_ours(ctx, policy.metadata.namespace, policy.metadata.labels)
        return policy if ours else None

    def _authentications(self, ctx: Context, namespace: str, root: str) -> tuple[PeerAuthentication, ...]:
        found = ctx.find(self._by_namespace, root)
        return found if namespace == root else (*ctx.find(self._by_namespace, namespace), *found)

    def _authentication(self, ctx: Context, _key: str, policy: PeerAuthentication) -> PolicyInfo:
        root = self._mesh.of(ctx).config.root_namespace
        policies = self._authentications(ctx, policy.metadata.namespace, root)
        record, problems = convert_peer_authentication(policy, policies, root)
        return PolicyInfo(record, None, problems)

    def _strict(
        self, ctx: Context, _key: str, _policies: tuple[PeerAuthentication, ...]
    ) -> dict[str, Authorization]:
        policy = static_strict_policy(self._mesh.of(ctx).config.root_namespace)
        return {policy.resource_name: policy}

    def listed(self, ctx: Context, namespace: str, found: labels.Labels) -> tuple[str, ...]:
        """The policies a workload names: those of its namespace and the root that select it, then mTLS."""
        root = self._mesh.of(ctx).config.root_namespace
        all_labels = dict(found)
        names = [
            info.policy.resource_name
            for place in dict.fromkeys((namespace, root))
            for pair in (*found, ("", ""))
            for info in ctx.find(self._selecting, (place, *pair))
            if info.policy is not None and labels.contains(all_labels, info.selector or ())
        ]
        authentications = self._authentications(ctx, namespace, root)
        return (*sorted(names), *policies_of(namespace, all_labels, authentications, root))


def _sent(_ctx: Context, _key: str, info: PolicyInfo) -> dict[str, Authorization]:
    return {} if info.policy is None else {info.policy.resource_name: info.policy}
