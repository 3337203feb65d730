"""Pure functions from objects and imports to workloads, services, policies, exports; a file per kind."""
