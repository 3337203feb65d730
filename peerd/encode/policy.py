"""Authorization records to `istio.security.Authorization` bytes, and back."""

from collections.abc import Iterable

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError as ProtobufDecodeError

from peerd.api.istio import security_pb2 as pb
from peerd.encode.frame import DecodeError, EncodeError, any_header, enum_number, frame, version_of
from peerd.model.authorization import (
    Action,
    AddressBlock,
    Authorization,
    Clause,
    Match,
    MatchKind,
    PolicyScope,
    Rule,
    ServiceAccountMatch,
    StringMatch,
)
from peerd.model.resource import Resource
from peerd.model.types import AUTHORIZATION

_HEADER = any_header(AUTHORIZATION)


def encode_policy(record: Authorization) -> Resource:
    """The resource of *record*, named `<namespace>/<name>`; neither aliases nor groups.

    Raises:
        EncodeError: a value does not fit its field.
    """
    name = record.resource_name
    try:
        payload = policy_payload(record)
        version = version_of(payload)
        return Resource(name, version, frame(name, version, _HEADER, payload))
    except (ValueError, TypeError) as error:
        raise EncodeError(f"{name!r} cannot be encoded as istio.security.Authorization: {error}") from error


def policy_payload(record: Authorization) -> bytes:
    """The bytes of `istio.security.Authorization` alone."""
    return pb.Authorization(
        name=record.name,
        namespace=record.namespace,
        scope=enum_number(record.scope),
        action=enum_number(record.action),
        rules=[
            pb.Rule(
                clauses=[
                    pb.Clause(matches=[_match_message(match) for match in clause.matches])
                    for clause in rule.clauses
                ]
            )
            for rule in record.rules
        ],
        dry_run=record.dry_run,
    ).SerializeToString(deterministic=True)


def _match_message(record: Match) -> pb.Match:
    return pb.Match(
        namespaces=[_string_message(value) for value in record.namespaces],
        not_namespaces=[_string_message(value) for value in record.not_namespaces],
        principals=[_string_message(value) for value in record.principals],
        not_principals=[_string_message(value) for value in record.not_principals],
        source_ips=[_block_message(block) for block in record.source_ips],
        not_source_ips=[_block_message(block) for block in record.not_source_ips],
        destination_ips=[_block_message(block) for block in record.destination_ips],
        not_destination_ips=[_block_message(block) for block in record.not_destination_ips],
        destination_ports=record.destination_ports,
        not_destination_ports=record.not_destination_ports,
        service_accounts=[_account_message(account) for account in record.service_accounts],
        not_service_accounts=[_account_message(account) for account in record.not_service_accounts],
    )


def _string_message(record: StringMatch) -> pb.StringMatch:
    match record.kind:
        case MatchKind.EXACT:
            return pb.StringMatch(exact=record.value)
        case MatchKind.PREFIX:
            return pb.StringMatch(prefix=record.value)
        case MatchKind.SUFFIX:
            return pb.StringMatch(suffix=record.value)
        case MatchKind.PRESENCE:
            return pb.StringMatch(presence=Empty())


def _block_message(record: AddressBlock) -> pb.Address:
    return pb.Address(address=record.address, length=record.length)


def _account_message(record: ServiceAccountMatch) -> pb.ServiceAccountMatch:
    return pb.ServiceAccountMatch(namespace=record.namespace, serviceAccount=record.service_account)


def decode_policy(payload: bytes) -> Authorization:
    """The record behind the bytes of an `istio.security.Authorization`.

    Raises:
        DecodeError: the bytes are not an Authorization, scope or action are unknown (ztunnel rejects both),
            or a string match is not set (ztunnel drops it, which can turn a match into one that never fits).
    """
    try:
        message = pb.Authorization.FromString(payload)
    except ProtobufDecodeError as error:
        raise DecodeError(f"not an istio.security.Authorization: {error}") from error
    try:
        return Authorization(
            name=message.name,
            namespace=message.namespace,
            scope=PolicyScope(message.scope),
            action=Action(message.action),
            rules=tuple(
                Rule(
                    tuple(
                        Clause(tuple(_match_record(match) for match in clause.matches))
                        for clause in rule.clauses
                    )
                )
                for rule in message.rules
            ),
            dry_run=message.dry_run,
        )
    except ValueError as error:
        raise DecodeError(f"istio.security.Authorization: {error}") from error


def _match_record(message: pb.Match) -> Match:
    return Match(
        namespaces=_string_records(message.namespaces),
        not_namespaces=_string_records(message.not_namespaces),
        principals=_string_records(message.principals),
        not_principals=_string_records(message.not_principals),
        source_ips=_block_records(message.source_ips),
        not_source_ips=_block_records(message.not_source_ips),
        destination_ips=_block_records(message.destination_ips),
        not_destination_ips=_block_records(message.not_destination_ips),
        destination_ports=tuple(message.destination_ports),
        not_destination_ports=tuple(message.not_destination_ports),
        service_accounts=_account_records(message.service_accounts),
        not_service_accounts=_account_records(message.not_service_accounts),
    )


def _block_records(messages: Iterable[pb.Address]) -> tuple[AddressBlock, ...]:
    return tuple(AddressBlock(message.address, message.length) for message in messages)


def _account_records(messages: Iterable[pb.ServiceAccountMatch]) -> tuple[ServiceAccountMatch, ...]:
    return tuple(ServiceAccountMatch(message.namespace, message.serviceAccount) for message in messages)


def _string_records(messages: Iterable[pb.StringMatch]) -> tuple[StringMatch, ...]:
    return tuple(_string_record(message) for message in messages)


def _string_record(message: pb.StringMatch) -> StringMatch:
    match message.WhichOneof("match_type"):
        case "exact":
            return StringMatch(MatchKind.EXACT, message.exact)
        case "prefix":
            return StringMatch(MatchKind.PREFIX, message.prefix)
        case "suffix":
            return StringMatch(MatchKind.SUFFIX, message.suffix)
        case "presence":
            return StringMatch(MatchKind.PRESENCE)
        case _:
            raise DecodeError("a string match that is not set")
