"""Pure functions from Kubernetes objects and imports to workloads, services, policies and exports; one file per kind."""
