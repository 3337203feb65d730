"""What derivation is told of the settings."""

from peerd.app.own_cluster import generates
from peerd.model.config import ServeConfig
from peerd.model.mesh import Settings


def settings_of(config: ServeConfig) -> Settings:
    """The part of *config* that derivation knows."""
    return Settings(
        cluster_id=config.cluster_id,
        trust_domain=config.trust_domain,
        system_namespace=config.system_namespace,
        network=config.network,
        revision=config.revision,
        peering=config.peering,
        peer_service_account=config.peer_service_account,
        generate=generates(config),
    )
