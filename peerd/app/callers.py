"""Who may call the ztunnel port: the authenticators that the settings ask for."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from peerd.model.clock import Clock
from peerd.model.config import ConfigError, ServeConfig
from peerd.serve.authentication import Authenticate, by_token, chain
from peerd.serve.tokens import JwksVerifier, TokenRefusedError, TokenVerifier

if TYPE_CHECKING:
    from peerd.app.kube import Kube


def authenticator(
    config: ServeConfig, kube: "Kube | None", clock: Clock, trust_domain: Callable[[], str]
) -> Authenticate:
    """The chain for everything that is not a peer; raises ConfigError."""
    verifier = _verifier(config, kube, clock)
    if verifier is None:
        return chain()
    return chain(by_token(verifier, trust_domain, lambda: (config.cluster_id,)))


def _verifier(config: ServeConfig, kube: "Kube | None", clock: Clock) -> TokenVerifier | None:
    if config.jwks_file:
        try:
            return JwksVerifier(Path(config.jwks_file), config.token_audiences, clock, config.token_issuer)
        except TokenRefusedError as error:
            raise ConfigError("--jwks-file", config.jwks_file, str(error), "name a JWKS file") from error
    if kube is not None:
        from peerd.serve.token_review import TokenReviewVerifier  # only here

        return TokenReviewVerifier(kube.transport, config.token_audiences, clock)
    return None
