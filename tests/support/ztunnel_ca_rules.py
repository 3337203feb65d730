"""What ztunnel demands of a CreateCertificate answer (wire-contract §5.4, measured.md §3), as a check."""

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID


def check_answer(chain: tuple[str, ...], csr: str, identity: str, now: float) -> x509.Certificate:
    """Fail on the first rule that *chain* breaks; returns the leaf."""
    assert len(chain) >= 2, "at least a leaf and the roots"
    parsed = [x509.load_pem_x509_certificates(element.encode()) for element in chain]
    for position, certificates in enumerate(parsed[:-1]):
        assert len(certificates) == 1, f"element {position} holds {len(certificates)} certificates, not one"
    leaf, intermediates, roots = parsed[0][0], [each[0] for each in parsed[1:-1]], parsed[-1]

    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert [name.value for name in names.value] == [identity]
    assert isinstance(next(iter(names.value)), x509.UniformResourceIdentifier)
    assert names.critical is (not leaf.subject), (
        "with an empty subject the SAN is critical (RFC 5280 §4.2.1.6)"
    )
    constraints = leaf.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert not constraints.ca, "ztunnel refuses a leaf that is a CA"
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature
    assert usage.key_encipherment
    assert not usage.key_cert_sign
    extended = set(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    assert extended == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}

    wanted = x509.load_pem_x509_csr(csr.encode()).public_key()
    assert _spki(leaf.public_key()) == _spki(wanted), "the leaf carries the key of the request"

    below = leaf
    for above in intermediates:
        below.verify_directly_issued_by(above)
        assert above.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        below = above
    assert any(_issued(root, below) for root in roots), "no root issued the top of the chain"
    assert not any(each in roots for each in intermediates), "a root is no intermediate"

    assert leaf.not_valid_before_utc.timestamp() <= now - 119, "other clocks may lag"
    half = (leaf.not_valid_after_utc.timestamp() - now) / 2
    assert half > 0, "ztunnel refreshes at half life"
    return leaf


def _issued(root: x509.Certificate, below: x509.Certificate) -> bool:
    try:
        below.verify_directly_issued_by(root)
    except Exception:  # noqa: BLE001 (any reason is a no)
        return False
    return True


def _spki(key: object) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]
