"""Leaves: shaped as ztunnel and openssl demand, whatever the request says beside its key."""

import base64

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from peerd import limits
from peerd.ca import authority, pem, signer
from peerd.ca.signer import MAX_TTL, SigningError, SigningFault, sign_request
from tests.support import cas
from tests.support.cas import DAY, NOW
from tests.support.ztunnel_ca_rules import check_answer

REVIEWS = "spiffe://cluster.local/ns/shop/sa/reviews"


@pytest.mark.parametrize("use_rsa", [False, True], ids=["ec", "rsa"])
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_every_chain_passes_ztunnel_and_openssl(levels: int, use_rsa: bool) -> None:
    """Self-signed, two, three levels: ztunnel's checks, and `openssl verify -x509_strict` for both ends."""
    match levels:
        case 1:
            files = cas.self_signed_files(use_rsa=use_rsa)
        case 2:
            files = cas.cluster_files(authority.make_root("test", NOW, use_rsa=use_rsa), use_rsa=use_rsa)
        case _:
            files = cas.three_level_files(use_rsa=use_rsa)
    request = cas.csr(uri=REVIEWS)

    chain = sign_request(cas.bundle_of(files), request, REVIEWS, 3600, NOW)

    check_answer(chain, request, REVIEWS, NOW)
    assert len(chain) == levels + 1
    for purpose in ("sslserver", "sslclient"):
        cas.openssl_verify(chain, NOW, purpose=purpose)


def test_an_rsa_ca_signs_an_ec_request_and_the_reverse() -> None:
    """The leaf's key is the requester's choice, the signature's that of the CA."""
    for ca_rsa in (False, True):
        bundle = cas.bundle_of(cas.self_signed_files(use_rsa=ca_rsa))
        request = cas.csr(pem.new_key(use_rsa=not ca_rsa))

        chain = sign_request(bundle, request, REVIEWS, 0, NOW)

        check_answer(chain, request, REVIEWS, NOW)
        cas.openssl_verify(chain, NOW, purpose="sslserver")


def test_nothing_of_the_request_but_its_key_is_taken() -> None:
    """Subject, SANs and extensions of a request that asks to be somebody else's CA are ignored."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "admin")]))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("istiod.istio-system.svc")]), critical=False)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
        .decode()
    )

    chain = sign_request(cas.bundle_of(cas.self_signed_files()), request, REVIEWS, 0, NOW)

    leaf = check_answer(chain, request, REVIEWS, NOW)
    assert not leaf.subject


@pytest.mark.parametrize(
    ("asked", "given"), [(0, DAY), (-5, DAY), (1, 1), (3600, 3600), (MAX_TTL, MAX_TTL)], ids=str
)
def test_lifetime_follows_the_request(asked: int, given: float) -> None:
    """0 and less mean 24 hours; up to 90 days are granted; the leaf is valid since two minutes ago."""
    chain = sign_request(cas.bundle_of(cas.self_signed_files()), cas.csr(), REVIEWS, asked, NOW)

    leaf = x509.load_pem_x509_certificate(chain[0].encode())
    assert leaf.not_valid_after_utc.timestamp() == NOW + given
    assert leaf.not_valid_before_utc.timestamp() == NOW - 120


def test_more_than_ninety_days_are_refused() -> None:
    """The text is istiod's, with the durations as Go prints them."""
    with pytest.raises(SigningError) as caught:
        sign_request(cas.bundle_of(cas.self_signed_files()), cas.csr(), REVIEWS, MAX_TTL + 61, NOW)

    assert caught.value.fault is SigningFault.TTL
    assert str(caught.value) == "requested TTL 2160h1m1s is greater than the max allowed TTL 2160h0m0s"


@pytest.mark.parametrize("shorter", ["signing", "policy"])
def test_a_leaf_does_not_outlive_its_chain(shorter: str) -> None:
    """Clamped to the end of the signing certificate, and of every intermediate above it."""
    root = authority.make_root("test", NOW)
    policy = cas.ca("policy", issuer=root, path_length=1, days=0.25 if shorter == "policy" else 30)
    cluster = cas.ca("cluster", issuer=policy, path_length=0, days=0.25 if shorter == "signing" else 30)
    files = authority.cacerts_files(
        cluster.certificate, cluster.key, (policy.certificate,), (root.certificate,)
    )

    chain = sign_request(cas.bundle_of(files), cas.csr(), REVIEWS, int(DAY), NOW)

    leaf = x509.load_pem_x509_certificate(chain[0].encode())
    assert leaf.not_valid_after_utc.timestamp() == NOW + DAY / 4


def test_an_expired_ca_signs_nothing() -> None:
    """A CA that ends while peerd runs is not ready, which is not the caller's fault."""
    bundle = cas.bundle_of(cas.cluster_files(authority.make_root("test", NOW), days=1))

    with pytest.raises(SigningError, match="has expired") as caught:
        sign_request(bundle, cas.csr(), REVIEWS, 60, NOW + DAY)

    assert caught.value.fault is SigningFault.NOT_READY


def _forged() -> str:
    """A request whose key was replaced after it was signed: the signature proves another key."""
    good = x509.load_pem_x509_csr(cas.csr().encode())
    other = x509.load_pem_x509_csr(cas.csr().encode())

    def point(request: x509.CertificateSigningRequest) -> bytes:
        key = request.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        return key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)

    der = good.public_bytes(serialization.Encoding.DER).replace(point(good), point(other))
    text = base64.encodebytes(der).decode()
    return f"-----BEGIN CERTIFICATE REQUEST-----\n{text}-----END CERTIFICATE REQUEST-----\n"


def _with_key(key: object) -> str:
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, algorithm)  # type: ignore[arg-type, type-var]
    return request.public_bytes(serialization.Encoding.PEM).decode()


@pytest.mark.parametrize(
    ("request_text", "told"),
    [
        ("", "not properly encoded"),
        ("nonsense", "not properly encoded"),
        ("snowman ☃", "not properly encoded"),
        (
            "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
            "not properly encoded",
        ),
        ("x" * (limits.CSR_BYTES.value + 1), "larger than 65536 bytes"),
        (_forged(), "not signed by the key it names"),
        (_with_key(ed25519.Ed25519PrivateKey.generate()), "neither EC"),
        (_with_key(ec.generate_private_key(ec.SECP224R1())), "neither EC"),
        (_with_key(rsa.generate_private_key(65537, 1024)), "neither EC"),
    ],
    ids=["empty", "text", "not-ascii", "no-der", "huge", "forged", "ed25519", "p224", "rsa1024"],
)
def test_a_bad_request_is_refused_with_its_reason(request_text: str, told: str) -> None:
    """Each is the request's fault, and none raises anything else."""
    with pytest.raises(SigningError, match=told) as caught:
        sign_request(cas.bundle_of(cas.self_signed_files()), request_text, REVIEWS, 0, NOW)

    assert caught.value.fault is SigningFault.REQUEST


def test_an_rsa_key_past_the_limit_is_refused_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a limit that is lowered, since larger keys take seconds to make."""
    lowered = limits.CSR_RSA_BITS._replace(value=2048)
    monkeypatch.setattr(signer, "CSR_RSA_BITS", lowered)
    bundle, before = cas.bundle_of(cas.self_signed_files()), limits.hits(lowered)
    assert sign_request(bundle, _with_key(rsa.generate_private_key(65537, 2048)), REVIEWS, 0, NOW)
    with pytest.raises(SigningError, match="RSA of 2048 to 2048 bits"):
        sign_request(bundle, _with_key(rsa.generate_private_key(65537, 2064)), REVIEWS, 0, NOW)
    assert limits.hits(lowered) == before + 1


def test_roots_are_one_last_element_in_the_order_of_the_file() -> None:
    """Two roots during a rotation: both in the last element, as in root-cert.pem (decision D42)."""
    old, new = authority.make_root("old", NOW), authority.make_root("new", NOW)
    files = cas.cluster_files(old)
    files["root-cert.pem"] += pem.write_certificates(new.certificate)

    chain = sign_request(cas.bundle_of(files), cas.csr(), REVIEWS, 0, NOW)

    assert chain[-1].encode() == files["root-cert.pem"]
    assert len(chain) == 3
    cas.openssl_verify(chain, NOW, purpose="sslserver")
