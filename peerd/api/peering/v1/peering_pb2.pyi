from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Scope(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SCOPE_UNSPECIFIED: _ClassVar[Scope]
    GLOBAL: _ClassVar[Scope]
    SEGMENT: _ClassVar[Scope]
SCOPE_UNSPECIFIED: Scope
GLOBAL: Scope
SEGMENT: Scope

class FederatedService(_message.Message):
    __slots__ = ("summary", "capacity")
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_FIELD_NUMBER: _ClassVar[int]
    summary: Summary
    capacity: _containers.RepeatedCompositeFieldContainer[Capacity]
    def __init__(self, summary: _Optional[_Union[Summary, _Mapping]] = ..., capacity: _Optional[_Iterable[_Union[Capacity, _Mapping]]] = ...) -> None: ...

class Summary(_message.Message):
    __slots__ = ("name", "namespace", "global_host", "local_host", "scope", "takeover", "aliases", "ports", "identities", "distribution", "waypoint", "created")
    NAME_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    GLOBAL_HOST_FIELD_NUMBER: _ClassVar[int]
    LOCAL_HOST_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    TAKEOVER_FIELD_NUMBER: _ClassVar[int]
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    PORTS_FIELD_NUMBER: _ClassVar[int]
    IDENTITIES_FIELD_NUMBER: _ClassVar[int]
    DISTRIBUTION_FIELD_NUMBER: _ClassVar[int]
    WAYPOINT_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    name: str
    namespace: str
    global_host: str
    local_host: str
    scope: Scope
    takeover: bool
    aliases: _containers.RepeatedScalarFieldContainer[str]
    ports: _containers.RepeatedCompositeFieldContainer[Port]
    identities: _containers.RepeatedScalarFieldContainer[str]
    distribution: str
    waypoint: str
    created: str
    def __init__(self, name: _Optional[str] = ..., namespace: _Optional[str] = ..., global_host: _Optional[str] = ..., local_host: _Optional[str] = ..., scope: _Optional[_Union[Scope, str]] = ..., takeover: _Optional[bool] = ..., aliases: _Optional[_Iterable[str]] = ..., ports: _Optional[_Iterable[_Union[Port, _Mapping]]] = ..., identities: _Optional[_Iterable[str]] = ..., distribution: _Optional[str] = ..., waypoint: _Optional[str] = ..., created: _Optional[str] = ...) -> None: ...

class Port(_message.Message):
    __slots__ = ("number", "name", "protocol", "app_protocol", "target")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    APP_PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    number: int
    name: str
    protocol: str
    app_protocol: int
    target: int
    def __init__(self, number: _Optional[int] = ..., name: _Optional[str] = ..., protocol: _Optional[str] = ..., app_protocol: _Optional[int] = ..., target: _Optional[int] = ...) -> None: ...

class Locality(_message.Message):
    __slots__ = ("region", "zone", "subzone")
    REGION_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    SUBZONE_FIELD_NUMBER: _ClassVar[int]
    region: str
    zone: str
    subzone: str
    def __init__(self, region: _Optional[str] = ..., zone: _Optional[str] = ..., subzone: _Optional[str] = ...) -> None: ...

class Capacity(_message.Message):
    __slots__ = ("network", "locality", "healthy")
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    LOCALITY_FIELD_NUMBER: _ClassVar[int]
    HEALTHY_FIELD_NUMBER: _ClassVar[int]
    network: str
    locality: Locality
    healthy: int
    def __init__(self, network: _Optional[str] = ..., locality: _Optional[_Union[Locality, _Mapping]] = ..., healthy: _Optional[int] = ...) -> None: ...

class Segment(_message.Message):
    __slots__ = ("name", "domain")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    name: str
    domain: str
    def __init__(self, name: _Optional[str] = ..., domain: _Optional[str] = ...) -> None: ...

class PeerInfo(_message.Message):
    __slots__ = ("cluster", "network", "trust_domain", "lineage", "segment", "segment_domain", "addresses", "gateway_service_account", "gateway_namespace", "capabilities", "version")
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    TRUST_DOMAIN_FIELD_NUMBER: _ClassVar[int]
    LINEAGE_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_DOMAIN_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_SERVICE_ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    cluster: str
    network: str
    trust_domain: str
    lineage: str
    segment: str
    segment_domain: str
    addresses: _containers.RepeatedCompositeFieldContainer[DataPlaneAddress]
    gateway_service_account: str
    gateway_namespace: str
    capabilities: _containers.RepeatedScalarFieldContainer[str]
    version: str
    def __init__(self, cluster: _Optional[str] = ..., network: _Optional[str] = ..., trust_domain: _Optional[str] = ..., lineage: _Optional[str] = ..., segment: _Optional[str] = ..., segment_domain: _Optional[str] = ..., addresses: _Optional[_Iterable[_Union[DataPlaneAddress, _Mapping]]] = ..., gateway_service_account: _Optional[str] = ..., gateway_namespace: _Optional[str] = ..., capabilities: _Optional[_Iterable[str]] = ..., version: _Optional[str] = ...) -> None: ...

class DataPlaneAddress(_message.Message):
    __slots__ = ("type", "value", "port")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    type: str
    value: str
    port: int
    def __init__(self, type: _Optional[str] = ..., value: _Optional[str] = ..., port: _Optional[int] = ...) -> None: ...

class Sync(_message.Message):
    __slots__ = ("state", "digest")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[Sync.State]
        COMPLETE: _ClassVar[Sync.State]
        VERSIONS_WANTED: _ClassVar[Sync.State]
    STATE_UNSPECIFIED: Sync.State
    COMPLETE: Sync.State
    VERSIONS_WANTED: Sync.State
    STATE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    state: Sync.State
    digest: str
    def __init__(self, state: _Optional[_Union[Sync.State, str]] = ..., digest: _Optional[str] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("sequence",)
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    def __init__(self, sequence: _Optional[int] = ...) -> None: ...
