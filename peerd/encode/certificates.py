"""The certificate call's messages: bytes to records and back (wire-contract §2.4)."""

from collections.abc import Sequence

from google.protobuf.message import DecodeError as ProtobufDecodeError

from peerd.api.istio import ca_pb2 as pb
from peerd.encode.frame import DecodeError
from peerd.model.certificate import CertificateRequest

_IMPERSONATED = "ImpersonatedIdentity"
_SIGNER = "CertSigner"


def decode_certificate_request(message: bytes) -> CertificateRequest:
    """Read an IstioCertificateRequest.

    Raises:
        DecodeError: the bytes are not one.
    """
    try:
        request = pb.IstioCertificateRequest.FromString(message)
    except ProtobufDecodeError as error:
        raise DecodeError(f"not an IstioCertificateRequest: {error}") from None
    return CertificateRequest(
        request.csr,
        request.validity_duration,
        request.metadata.fields[_IMPERSONATED].string_value,
        request.metadata.fields[_SIGNER].string_value,
    )


def encode_certificate_request(request: CertificateRequest) -> bytes:
    """An IstioCertificateRequest, as ztunnel sends it."""
    message = pb.IstioCertificateRequest(csr=request.csr, validity_duration=request.validity_seconds)
    if request.impersonated:
        message.metadata[_IMPERSONATED] = request.impersonated
    if request.signer:
        message.metadata[_SIGNER] = request.signer
    return message.SerializeToString()


def encode_certificate_response(chain: Sequence[str]) -> bytes:
    """An IstioCertificateResponse: the leaf, each intermediate, then all roots in one text."""
    return pb.IstioCertificateResponse(cert_chain=chain).SerializeToString()


def decode_certificate_response(message: bytes) -> tuple[str, ...]:
    """The chain of an IstioCertificateResponse; raises DecodeError where the bytes are not one."""
    try:
        return tuple(pb.IstioCertificateResponse.FromString(message).cert_chain)
    except ProtobufDecodeError as error:
        raise DecodeError(f"not an IstioCertificateResponse: {error}") from None
