"""What marks objects that peerd wrote itself (decisions D5, D36)."""

GENERATED_LABEL = "peerd.io/generated"
"""The one label of every object that peerd generates, wherever it lives: uninstalling deletes by it."""

GENERATED_VALUE = "true"
"""Its value."""

FIELD_MANAGER = "peerd"
"""Under which name peerd applies. An object is ours by the label *and* this manager: whoever copies one of
our manifests by hand has written an object of their own."""

GENERATED_KINDS = ("ServiceEntry", "WorkloadEntry")
"""Kinds of which generated objects are no input of derivation. A Service that peerd makes for a gateway is
an ordinary Service of the cluster."""
