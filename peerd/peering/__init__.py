"""The dialling side of peering: connections to peers, their imports, staleness, quotas, persistence."""
