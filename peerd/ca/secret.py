"""A CA out of the data of a Secret: the files of peerd/ca/bundle.py, as keys."""

from collections.abc import Mapping
from pathlib import Path

from peerd.ca.bundle import CACERTS, CRL, TLS_SECRET, BundleError, CaBundle, parse_bundle


def bundle_of(data: Mapping[str, bytes], where: str, now: float, *, self_made: bool = False) -> CaBundle:
    """The CA in *data*, in either layout. *where* names the Secret in messages, *now* is in Unix seconds.

    *self_made*: a control plane made it for itself. istiod leaves keys of its empty then, the chain above
    all, and in old versions had no root: the certificate is the root.

    Raises:
        BundleError: the Secret holds no CA, a part of one, two of them, or one that cannot sign.
    """
    files = {name: data[name] for name in (*CACERTS, *TLS_SECRET, CRL) if data.get(name) is not None}
    if self_made:
        files = {name: value for name, value in files.items() if value}
        files.setdefault("root-cert.pem", files.get("ca-cert.pem", b""))
        files.setdefault("cert-chain.pem", b"")
    layout = CACERTS if any(name in files for name in CACERTS) else TLS_SECRET
    if layout is CACERTS and any(name in files for name in TLS_SECRET):
        raise BundleError(
            f"{where}: holds keys of both layouts, {', '.join(CACERTS)} and {', '.join(TLS_SECRET)};"
            " remove one of the two sets"
        )
    missing = [name for name in layout if name not in files]
    if missing:
        raise BundleError(f"{where}: {', '.join(missing)} missing; a CA needs all of {', '.join(layout)}")
    return parse_bundle(files, Path(where), now)
