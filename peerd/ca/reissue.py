"""Rotating a cluster's CA on disk, one safe step at a time: add a root, wait, switch issuer, remove (D42).

A running peerd takes each step up without a restart; between two steps every workload must have fetched the
roots again, which takes at most half a certificate's lifetime (12 hours by default).
"""

from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import NameOID

from peerd.ca import authority, pem
from peerd.ca.bundle import CACERTS, BundleError, CaBundle, issued, load_bundle
from peerd.ca.leaf import Issuer

_CERTIFICATE, _KEY, _ROOTS, _CHAIN = CACERTS


def new_issuer(directory: Path, root: Issuer, now: float, *, days: int, use_rsa: bool) -> None:
    """Give the cluster in *directory* a new signing certificate and key under *root*.

    Raises:
        BundleError: *root* is not among the cluster's roots: its workloads would not trust what it signs.
    """
    bundle = load_bundle(directory, now)
    _need_cacerts(directory)
    if root.certificate not in bundle.roots:
        raise BundleError(
            f"{directory / _ROOTS}: does not hold {pem.name_of(root.certificate)!r}; add it first with"
            " `peerd certs rotate --add-root`, and wait until workloads have it"
        )
    files = authority.make_cluster_ca(root, _cluster(bundle.certificate), now, days=days, use_rsa=use_rsa)
    # The roots stay as they are. A peerd that reads between two of these writes sees a mismatch and waits.
    for name in (_CHAIN, _CERTIFICATE, _KEY):
        authority.replace(directory / name, files[name])


def add_root(directory: Path, certificate: x509.Certificate, now: float) -> None:
    """Make the cluster trust one more root; raises BundleError where it does already."""
    bundle = load_bundle(directory, now)
    _need_cacerts(directory)
    if certificate in bundle.roots:
        raise BundleError(f"{directory / _ROOTS}: already holds {pem.name_of(certificate)!r}")
    authority.replace(directory / _ROOTS, pem.write_certificates(*bundle.roots, certificate))


def remove_root(directory: Path, certificate: x509.Certificate, now: float) -> None:
    """Make the cluster trust one root less.

    Raises:
        BundleError: it is not there, or the cluster's own signing certificate hangs under it.
    """
    bundle = load_bundle(directory, now)
    _need_cacerts(directory)
    left = tuple(each for each in bundle.roots if each != certificate)
    if len(left) == len(bundle.roots):
        raise BundleError(f"{directory / _ROOTS}: does not hold {pem.name_of(certificate)!r}")
    if not anchored(bundle, left):
        raise BundleError(
            f"{directory / _CERTIFICATE}: is signed under {pem.name_of(certificate)!r}; switch the issuer"
            " first with `peerd certs rotate --issuer`, and wait until workloads have new certificates"
        )
    authority.replace(directory / _ROOTS, pem.write_certificates(*left))


def anchored(bundle: CaBundle, roots: tuple[x509.Certificate, ...]) -> bool:
    """Whether what *bundle* signs can be verified with *roots*."""
    top = bundle.intermediates[-1] if bundle.intermediates else bundle.certificate
    return top in roots or any(issued(root, top) for root in roots)


def _need_cacerts(directory: Path) -> None:
    if not (directory / _CERTIFICATE).exists():
        raise BundleError(f"{directory}: holds tls.crt, which another tool owns and renews; rotate it there")


def _cluster(certificate: x509.Certificate) -> str:
    found = certificate.subject.get_attributes_for_oid(NameOID.LOCALITY_NAME)
    return str(found[0].value) if found else ""
