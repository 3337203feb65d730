"""Whether a node proxy may have a certificate for a workload (wire-contract §5.4, checklist 38)."""

from collections.abc import Collection

from peerd.model.caller import Caller, CallerKind
from peerd.model.identity import SpiffeId, parse_spiffe_id
from peerd.serve.pods import PodDirectory


class ImpersonationRefusedError(Exception):
    """It may not; the text is for our log, the caller hears an opaque one."""


def check_impersonation(caller: Caller, wanted: str, trusted: Collection[str], pods: PodDirectory) -> str:
    """Whether *caller* may have a certificate for *wanted*, a SPIFFE URI; returns it.

    All must hold: the caller's account is one of *trusted* (`namespace/account`); its token is bound to a Pod
    that exists with that uid and account; a Pod of the wanted account, not Failed, runs on the same node; and
    the wanted trust domain is the caller's own. istiod does not compare the last: a node could then obtain
    identities of a trust domain that this CA does not speak for.

    Raises:
        ImpersonationRefusedError: naming what does not hold.
    """
    identity = caller.identity
    if caller.kind is not CallerKind.WORKLOAD or identity is None:
        raise ImpersonationRefusedError(f"a {caller.kind} caller may not impersonate")
    account = f"{identity.namespace}/{identity.service_account}"
    if account not in trusted:
        raise ImpersonationRefusedError(f"account {account} is no trusted ztunnel account")
    target = _parse(wanted)
    if target.trust_domain != identity.trust_domain:
        raise ImpersonationRefusedError(
            f"{wanted} is of trust domain {target.trust_domain!r}, the caller of {identity.trust_domain!r}"
        )
    if not caller.pod_name:
        raise ImpersonationRefusedError("the caller's token is not bound to a Pod")
    pod = pods.pod(identity.namespace, caller.pod_name)
    where = f"caller Pod {identity.namespace}/{caller.pod_name}"
    if pod is None:
        raise ImpersonationRefusedError(f"{where} does not exist")
    if not caller.pod_uid or pod.uid != caller.pod_uid:
        raise ImpersonationRefusedError(f"{where} has uid {pod.uid!r}, the token says {caller.pod_uid!r}")
    if pod.service_account != identity.service_account:
        raise ImpersonationRefusedError(
            f"{where} runs as {pod.service_account!r}, the token says {identity.service_account!r}"
        )
    if not pod.node:
        raise ImpersonationRefusedError(f"{where} is on no node yet")
    if not pods.runs(pod.node, target.namespace, target.service_account):
        raise ImpersonationRefusedError(
            f"no Pod of {target.namespace}/{target.service_account} runs on node {pod.node!r}"
        )
    return wanted


def _parse(wanted: str) -> SpiffeId:
    try:
        return parse_spiffe_id(wanted)
    except ValueError as error:
        raise ImpersonationRefusedError(f"the wanted identity {error}") from error
