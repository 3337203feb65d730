"""Who may call the ztunnel port: the authenticators that the settings ask for."""

from collections.abc import Callable
from pathlib import Path

from peerd.model.clock import Clock
from peerd.model.config import ConfigError, ServeConfig
from peerd.serve.authentication import Authenticate, by_token, chain
from peerd.serve.tokens import JwksVerifier, TokenRefusedError


def authenticator(config: ServeConfig, clock: Clock, trust_domain: Callable[[], str]) -> Authenticate:
    """The chain for everything that is not a peer; raises ConfigError."""
    if not config.jwks_file:
        return chain()
    try:
        verifier = JwksVerifier(Path(config.jwks_file), config.token_audiences, clock, config.token_issuer)
    except TokenRefusedError as error:
        raise ConfigError("--jwks-file", config.jwks_file, str(error), "name a JWKS file") from error
    return chain(by_token(verifier, trust_domain, lambda: (config.cluster_id,)))
