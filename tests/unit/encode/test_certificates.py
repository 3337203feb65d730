"""The certificate call's messages, as ztunnel writes and reads them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerd.api.istio import ca_pb2
from peerd.encode.certificates import (
    decode_certificate_request,
    decode_certificate_response,
    encode_certificate_request,
    encode_certificate_response,
)
from peerd.encode.frame import DecodeError
from peerd.model.certificate import CertificateRequest


@given(
    st.builds(CertificateRequest, st.text(), st.integers(-(2**63), 2**63 - 1), st.text(), st.text(max_size=9))
)
def test_a_request_is_read_as_it_was_written(request: CertificateRequest) -> None:
    """CSR, lifetime, impersonated identity and signer; absent metadata is empty text."""
    assert decode_certificate_request(encode_certificate_request(request)) == request


def test_metadata_of_other_kinds_is_no_identity() -> None:
    """Only a string counts: a number or a list under the key impersonates nobody."""
    message = ca_pb2.IstioCertificateRequest(csr="x")
    message.metadata["ImpersonatedIdentity"] = 7
    message.metadata["CertSigner"] = ["a"]

    assert decode_certificate_request(message.SerializeToString()) == CertificateRequest("x")


def test_a_chain_keeps_its_elements() -> None:
    """Order and number matter to ztunnel."""
    assert decode_certificate_response(encode_certificate_response(("leaf", "middle", "roots"))) == (
        "leaf",
        "middle",
        "roots",
    )


@pytest.mark.parametrize("message", [b"\x0a", b"\xff\xff", b"\x0a\x02\xff\xff"])
def test_other_bytes_are_refused(message: bytes) -> None:
    """A cut message, no message, text that is no UTF-8."""
    with pytest.raises(DecodeError, match="not an IstioCertificate"):
        decode_certificate_request(message)
    with pytest.raises(DecodeError, match="not an IstioCertificate"):
        decode_certificate_response(message)
