"""peerd: Istio ambient control planes that peer."""

__version__ = "0.1.0"
