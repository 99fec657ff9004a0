from pbac.v1 import decision_pb2 as _decision_pb2
from pbac.v1 import registry_pb2 as _registry_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SealToken(_message.Message):
    __slots__ = ("data_service", "token")
    DATA_SERVICE_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    data_service: str
    token: bytes
    def __init__(self, data_service: _Optional[str] = ..., token: _Optional[bytes] = ...) -> None: ...

class SealRequest(_message.Message):
    __slots__ = ("change", "seal_id", "tokens")
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    SEAL_ID_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    change: _registry_pb2.Change
    seal_id: str
    tokens: _containers.RepeatedCompositeFieldContainer[SealToken]
    def __init__(self, change: _Optional[_Union[_registry_pb2.Change, _Mapping]] = ..., seal_id: _Optional[str] = ..., tokens: _Optional[_Iterable[_Union[SealToken, _Mapping]]] = ...) -> None: ...

class SealResponse(_message.Message):
    __slots__ = ("state", "epoch", "in_force_at_ms", "in_force_for_answers_at_ms", "waiting_for", "receipt")
    STATE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    IN_FORCE_AT_MS_FIELD_NUMBER: _ClassVar[int]
    IN_FORCE_FOR_ANSWERS_AT_MS_FIELD_NUMBER: _ClassVar[int]
    WAITING_FOR_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    state: _registry_pb2.ChangeState
    epoch: int
    in_force_at_ms: int
    in_force_for_answers_at_ms: int
    waiting_for: _containers.RepeatedScalarFieldContainer[str]
    receipt: _decision_pb2.Receipt
    def __init__(self, state: _Optional[_Union[_registry_pb2.ChangeState, str]] = ..., epoch: _Optional[int] = ..., in_force_at_ms: _Optional[int] = ..., in_force_for_answers_at_ms: _Optional[int] = ..., waiting_for: _Optional[_Iterable[str]] = ..., receipt: _Optional[_Union[_decision_pb2.Receipt, _Mapping]] = ...) -> None: ...

class LiftRequest(_message.Message):
    __slots__ = ("change", "seal_id")
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    SEAL_ID_FIELD_NUMBER: _ClassVar[int]
    change: _registry_pb2.Change
    seal_id: str
    def __init__(self, change: _Optional[_Union[_registry_pb2.Change, _Mapping]] = ..., seal_id: _Optional[str] = ...) -> None: ...

class LiftResponse(_message.Message):
    __slots__ = ("state", "epoch", "receipt")
    STATE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    state: _registry_pb2.ChangeState
    epoch: int
    receipt: _decision_pb2.Receipt
    def __init__(self, state: _Optional[_Union[_registry_pb2.ChangeState, str]] = ..., epoch: _Optional[int] = ..., receipt: _Optional[_Union[_decision_pb2.Receipt, _Mapping]] = ...) -> None: ...

class WatchSealsRequest(_message.Message):
    __slots__ = ("at_least_epoch",)
    AT_LEAST_EPOCH_FIELD_NUMBER: _ClassVar[int]
    at_least_epoch: int
    def __init__(self, at_least_epoch: _Optional[int] = ...) -> None: ...

class WatchSealsResponse(_message.Message):
    __slots__ = ("snapshot", "change", "heartbeat")
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    snapshot: SealSnapshot
    change: SealChange
    heartbeat: SealHeartbeat
    def __init__(self, snapshot: _Optional[_Union[SealSnapshot, _Mapping]] = ..., change: _Optional[_Union[SealChange, _Mapping]] = ..., heartbeat: _Optional[_Union[SealHeartbeat, _Mapping]] = ...) -> None: ...

class SealSnapshot(_message.Message):
    __slots__ = ("epoch", "tokens", "complete")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    tokens: _containers.RepeatedScalarFieldContainer[bytes]
    complete: bool
    def __init__(self, epoch: _Optional[int] = ..., tokens: _Optional[_Iterable[bytes]] = ..., complete: _Optional[bool] = ...) -> None: ...

class SealChange(_message.Message):
    __slots__ = ("epoch", "added", "removed")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    ADDED_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    added: _containers.RepeatedScalarFieldContainer[bytes]
    removed: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, epoch: _Optional[int] = ..., added: _Optional[_Iterable[bytes]] = ..., removed: _Optional[_Iterable[bytes]] = ...) -> None: ...

class SealHeartbeat(_message.Message):
    __slots__ = ("epoch",)
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    def __init__(self, epoch: _Optional[int] = ...) -> None: ...

class AcknowledgeSealsRequest(_message.Message):
    __slots__ = ("epoch",)
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    def __init__(self, epoch: _Optional[int] = ...) -> None: ...

class AcknowledgeSealsResponse(_message.Message):
    __slots__ = ("epoch",)
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    def __init__(self, epoch: _Optional[int] = ...) -> None: ...
