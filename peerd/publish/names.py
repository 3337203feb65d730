"""Objects that are known by their names, to the whole mesh or to every replica (wire-contract §5.2)."""

GIVEN_CA = "cacerts"
"""The Secret of the CA that an operator gave."""

SELF_MADE_CA = "istio-ca-secret"
"""The Secret of the CA that a control plane made for itself."""

ROOTS = "istio-ca-root-cert"
"""The ConfigMap of every namespace that holds the roots to trust."""

REVOKED = "istio-ca-crl"
"""The ConfigMap of every namespace that holds the CA's revocation list, where it has one."""

LEASE_NAME = "peerd"
"""The Lease of the system namespace that says which replica writes; of a revision, `peerd-<revision>`."""
