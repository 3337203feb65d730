"""Envoy's files: secrets as its file-based SDS reads them, written whole or not at all."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peerd.ca import pem
from peerd.encode.envoy_listeners import IDENTITY_FILE, IDENTITY_SECRET, TRUST_FILE, TRUST_SECRET
from peerd.gateway.certificate import CertificateError, Identity
from peerd.gateway.settings import GatewaySettings

ROOTS_FILE = "sds/roots.yaml"
ROOTS_SECRET = "roots"  # noqa: S105 (a name)

_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"


def write(directory: Path, name: str, text: str) -> bool:
    """Put a file that only we can read, by rename: Envoy follows renames, and never sees half of one.

    Returns whether anything changed.
    """
    path = directory / name
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        if path.read_text("utf-8") == text:
            return False
    except FileNotFoundError:
        pass
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
    return True


def identity_secret(identity: Identity) -> str:
    """The certificate and its key, in one file so that they never part."""
    return _secret(
        IDENTITY_SECRET,
        "tls_certificate",
        {
            "certificate_chain": {"inline_string": identity.chain},
            "private_key": {"inline_string": identity.key},
        },
    )


def trust_secret(roots_by_trust_domain: Mapping[str, str]) -> str:
    """Whom the gateway admits: each trust domain under its own roots alone, no other trust domain."""
    validator = {
        "@type": f"{_TLS}.SPIFFECertValidatorConfig",
        "trust_domains": [
            {"name": name, "trust_bundle": {"inline_string": roots}}
            for name, roots in sorted(roots_by_trust_domain.items())
        ],
    }
    context = {
        "custom_validator_config": {"name": "envoy.tls.cert_validator.spiffe", "typed_config": validator}
    }
    return _secret(TRUST_SECRET, "validation_context", context)


def roots_secret(roots: str) -> str:
    """What peerd's own certificate is verified with."""
    return _secret(ROOTS_SECRET, "validation_context", {"trusted_ca": {"inline_string": roots}})


def write_secrets(settings: GatewaySettings, identity: Identity) -> bool:
    """Bring all secrets up to date; returns whether any changed.

    Raises:
        CertificateError: roots cannot be read.
        OSError: the directory cannot be written.
    """
    directory = Path(settings.directory)
    own = merged(identity.roots, _roots(settings.roots_file))
    others = {name: _read(f"of trust domain {name}", text) for name, text in settings.other_pem}
    others |= {name: _roots(path) for name, path in settings.other_roots}
    changed = [
        write(directory, ROOTS_FILE, roots_secret(own)),
        write(directory, TRUST_FILE, trust_secret({**others, settings.trust_domain: own})),
        write(directory, IDENTITY_FILE, identity_secret(identity)),
    ]
    return any(changed)


def surplus_roots(settings: GatewaySettings, identity: Identity) -> str:
    """Roots that came with the certificate and are not, or no longer, in the file of roots, as PEM.

    Raises:
        CertificateError: the file cannot be read.
    """
    listed = set(pem.read_certificates(_roots(settings.roots_file).encode()))
    found = [each for each in pem.read_certificates(identity.roots.encode()) if each not in listed]
    return pem.write_certificates(*found).decode() if found else ""


def read_secret(settings: GatewaySettings) -> tuple[str, str, str] | None:
    """Chain, key and roots as they were written by an earlier run, or None where there is nothing to use."""
    directory = Path(settings.directory)
    try:
        certificate = _content(directory / IDENTITY_FILE)["tls_certificate"]
        roots = _content(directory / ROOTS_FILE)["validation_context"]["trusted_ca"]["inline_string"]
        return (
            certificate["certificate_chain"]["inline_string"],
            certificate["private_key"]["inline_string"],
            roots,
        )
    except (OSError, ValueError, LookupError, TypeError):
        return None


def merged(*texts: str) -> str:
    """Every certificate of the texts, each once."""
    found = dict.fromkeys(
        certificate for text in texts for certificate in pem.read_certificates(text.encode())
    )
    return pem.write_certificates(*found).decode()


def _roots(path: str) -> str:
    try:
        text = Path(path).read_text("ascii")
    except (OSError, ValueError) as error:
        raise CertificateError(f"roots {path} cannot be read: {error}; give a file of PEM roots") from error
    return _read(path, text)


def _read(what: str, text: str) -> str:
    try:
        pem.read_certificates(text.encode())
    except ValueError as error:
        raise CertificateError(f"roots {what} cannot be read: {error}; give PEM roots") from error
    return text


def _secret(name: str, kind: str, content: Mapping[str, Any]) -> str:
    # JSON is YAML, and needs no library that could quote a certificate otherwise.
    return (
        json.dumps({"resources": [{"@type": f"{_TLS}.Secret", "name": name, kind: content}]}, indent=1) + "\n"
    )


def _content(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))["resources"][0]
    return found
