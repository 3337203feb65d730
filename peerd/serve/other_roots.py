"""Roots of other trust domains: MeshConfig `caCertificates[].trustDomains` (decision D14)."""

from collections.abc import Iterable, Mapping

import structlog

from peerd.ca.pem import PemError, read_certificates, write_certificates
from peerd.derive.mesh import is_mesh_config, parse_mesh
from peerd.model.changes import Change, ObjectChange
from peerd.model.kube.core import ConfigMap
from peerd.model.mesh import CaCertificate, Settings

log = structlog.get_logger(__name__)


class OtherRoots:
    """Follows the mesh configuration in the object stream: `apply` takes the same changes as derivation.

    The revision's own ConfigMap wins over the plain one. One that cannot be read changes nothing; an entry
    that is no PEM is told in the log and left out; one without trust domains says nothing about others.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._entries: dict[str, tuple[CaCertificate, ...]] = {}
        self._roots: Mapping[str, bytes] = {}

    def current(self) -> Mapping[str, bytes]:
        """PEM of the roots by trust domain; the same object until it changes."""
        return self._roots

    def apply(self, changes: Iterable[Change]) -> None:
        """Take changes; all but those of the mesh configuration are passed over."""
        touched = False
        for change in changes:
            if not isinstance(change, ObjectChange) or change.kind != "ConfigMap":
                continue
            name = change.key.name
            if not is_mesh_config(self._settings, change.key.namespace, name):
                continue
            touched = True
            if not isinstance(change.object, ConfigMap):
                self._entries.pop(name, None)
                continue
            config = parse_mesh(change.object).config
            if config is not None:
                self._entries[name] = config.ca_certificates
        if touched:
            self._roots = self._merged()

    def _merged(self) -> dict[str, bytes]:
        entries = self._entries.get(f"istio-{self._settings.revision}", self._entries.get("istio", ()))
        merged: dict[str, bytes] = {}
        for position, entry in enumerate(entries):
            if not entry.trust_domains:
                continue
            try:
                roots = write_certificates(*read_certificates(entry.pem.encode()))
                fault = "" if roots else "is empty"
            except PemError as error:
                roots, fault = b"", str(error)
            if fault:
                log.warning("root_left_out", field=f"caCertificates[{position}].pem", reason=fault)
                continue
            for domain in entry.trust_domains:
                merged[domain] = merged.get(domain, b"") + roots
        return merged
