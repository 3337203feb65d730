"""`/debug` asks for the same credentials, and knows the same table, as debug types over xDS (D42)."""

import pytest

from peerd.app.access import DebugAccess
from peerd.model.identity import SpiffeId
from peerd.serve.authentication import REFUSAL, by_token, chain
from peerd.serve.authorisation import Authorisation
from peerd.serve.tokens import TokenRefusedError, VerifiedToken

ACCOUNTS = {
    "istioctl's": ("istio-system", "default"),
    "ztunnel's": ("istio-system", "ztunnel"),
    "reviews'": ("shop", "reviews"),
}


class Verifier:
    """Knows a token by the account it is of."""

    async def verify(self, token):
        if token not in ACCOUNTS:
            raise TokenRefusedError("the signature does not hold")
        return VerifiedToken(*ACCOUNTS[token], "", "")


def access(*steps):
    return DebugAccess(chain(*steps), Authorisation({"istio-system/ztunnel"}, "istio-system"))


TOKENS = access(by_token(Verifier(), lambda: "cluster.local", lambda: ("east",)))


async def ask(token, who=TOKENS):
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return await who(headers, "127.0.0.1:4711")


async def test_an_operator_of_the_system_namespace_may_look():
    assert await ask("istioctl's") == ""


@pytest.mark.parametrize("token", ["", "forged"])
async def test_without_a_credential_that_holds_nobody_may(token):
    """Not even a caller on the loopback address; the reason is in our log, not in the answer."""
    assert await ask(token) == REFUSAL


async def test_a_token_of_another_cluster_does_not_hold():
    headers = {"authorization": "Bearer istioctl's", "clusterid": "west"}
    assert await TOKENS(headers, "127.0.0.1:4711") == REFUSAL


@pytest.mark.parametrize("token", ["ztunnel's", "reviews'"])
async def test_a_node_proxy_and_a_workload_may_not_and_are_told_who_may(token):
    """They show who they are, and it is not an operator."""
    namespace, account = ACCOUNTS[token]
    refusal = await ask(token)
    assert str(SpiffeId("cluster.local", namespace, account)) in refusal
    assert "only accounts of istio-system may" in refusal


async def test_where_no_token_can_be_verified_everybody_is_refused():
    """`peerd serve` without --jwks-file."""
    assert await ask("istioctl's", access()) == REFUSAL
