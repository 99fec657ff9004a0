from pbac.v1 import decision_pb2 as _decision_pb2
from pbac.v1 import registry_pb2 as _registry_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class VersionState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERSION_STATE_UNSPECIFIED: _ClassVar[VersionState]
    VERSION_STATE_PUBLISHED: _ClassVar[VersionState]
    VERSION_STATE_APPROVED: _ClassVar[VersionState]
    VERSION_STATE_SCHEDULED: _ClassVar[VersionState]
    VERSION_STATE_ACTIVE: _ClassVar[VersionState]
    VERSION_STATE_REPLACED: _ClassVar[VersionState]
VERSION_STATE_UNSPECIFIED: VersionState
VERSION_STATE_PUBLISHED: VersionState
VERSION_STATE_APPROVED: VersionState
VERSION_STATE_SCHEDULED: VersionState
VERSION_STATE_ACTIVE: VersionState
VERSION_STATE_REPLACED: VersionState

class Version(_message.Message):
    __slots__ = ("version", "state", "policy_digest", "envelope_digest", "description", "effective_from_ms", "published_at_ms", "author_key_id", "approvals", "activated_at_ms", "replaced_at_ms", "backs_out_to")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    POLICY_DIGEST_FIELD_NUMBER: _ClassVar[int]
    ENVELOPE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    EFFECTIVE_FROM_MS_FIELD_NUMBER: _ClassVar[int]
    PUBLISHED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_KEY_ID_FIELD_NUMBER: _ClassVar[int]
    APPROVALS_FIELD_NUMBER: _ClassVar[int]
    ACTIVATED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    REPLACED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    BACKS_OUT_TO_FIELD_NUMBER: _ClassVar[int]
    version: int
    state: VersionState
    policy_digest: str
    envelope_digest: bytes
    description: str
    effective_from_ms: int
    published_at_ms: int
    author_key_id: str
    approvals: _containers.RepeatedCompositeFieldContainer[Approval]
    activated_at_ms: int
    replaced_at_ms: int
    backs_out_to: int
    def __init__(self, version: _Optional[int] = ..., state: _Optional[_Union[VersionState, str]] = ..., policy_digest: _Optional[str] = ..., envelope_digest: _Optional[bytes] = ..., description: _Optional[str] = ..., effective_from_ms: _Optional[int] = ..., published_at_ms: _Optional[int] = ..., author_key_id: _Optional[str] = ..., approvals: _Optional[_Iterable[_Union[Approval, _Mapping]]] = ..., activated_at_ms: _Optional[int] = ..., replaced_at_ms: _Optional[int] = ..., backs_out_to: _Optional[int] = ...) -> None: ...

class Approval(_message.Message):
    __slots__ = ("signature", "at_ms", "why")
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    signature: _registry_pb2.AdminSignature
    at_ms: int
    why: str
    def __init__(self, signature: _Optional[_Union[_registry_pb2.AdminSignature, _Mapping]] = ..., at_ms: _Optional[int] = ..., why: _Optional[str] = ...) -> None: ...

class SourceFile(_message.Message):
    __slots__ = ("path", "content", "digest")
    PATH_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    path: str
    content: bytes
    digest: bytes
    def __init__(self, path: _Optional[str] = ..., content: _Optional[bytes] = ..., digest: _Optional[bytes] = ...) -> None: ...

class PolicyProblem(_message.Message):
    __slots__ = ("place", "message", "counterexample")
    PLACE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    COUNTEREXAMPLE_FIELD_NUMBER: _ClassVar[int]
    place: str
    message: str
    counterexample: Counterexample
    def __init__(self, place: _Optional[str] = ..., message: _Optional[str] = ..., counterexample: _Optional[_Union[Counterexample, _Mapping]] = ...) -> None: ...

class Counterexample(_message.Message):
    __slots__ = ("invariant", "data_service", "requester", "check", "now_ms")
    INVARIANT_FIELD_NUMBER: _ClassVar[int]
    DATA_SERVICE_FIELD_NUMBER: _ClassVar[int]
    REQUESTER_FIELD_NUMBER: _ClassVar[int]
    CHECK_FIELD_NUMBER: _ClassVar[int]
    NOW_MS_FIELD_NUMBER: _ClassVar[int]
    invariant: str
    data_service: str
    requester: str
    check: _decision_pb2.CheckRequest
    now_ms: int
    def __init__(self, invariant: _Optional[str] = ..., data_service: _Optional[str] = ..., requester: _Optional[str] = ..., check: _Optional[_Union[_decision_pb2.CheckRequest, _Mapping]] = ..., now_ms: _Optional[int] = ...) -> None: ...

class ListVersionsRequest(_message.Message):
    __slots__ = ("state", "page_size", "page_token")
    STATE_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    state: VersionState
    page_size: int
    page_token: str
    def __init__(self, state: _Optional[_Union[VersionState, str]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListVersionsResponse(_message.Message):
    __slots__ = ("versions", "next_page_token")
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    versions: _containers.RepeatedCompositeFieldContainer[Version]
    next_page_token: str
    def __init__(self, versions: _Optional[_Iterable[_Union[Version, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetVersionRequest(_message.Message):
    __slots__ = ("version", "want_sources")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    WANT_SOURCES_FIELD_NUMBER: _ClassVar[int]
    version: int
    want_sources: bool
    def __init__(self, version: _Optional[int] = ..., want_sources: _Optional[bool] = ...) -> None: ...

class GetVersionResponse(_message.Message):
    __slots__ = ("version", "envelope", "sources")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    version: Version
    envelope: bytes
    sources: _containers.RepeatedCompositeFieldContainer[SourceFile]
    def __init__(self, version: _Optional[_Union[Version, _Mapping]] = ..., envelope: _Optional[bytes] = ..., sources: _Optional[_Iterable[_Union[SourceFile, _Mapping]]] = ...) -> None: ...

class PublishRequest(_message.Message):
    __slots__ = ("change", "envelope", "sources", "dry_run")
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    change: _registry_pb2.Change
    envelope: bytes
    sources: _containers.RepeatedCompositeFieldContainer[SourceFile]
    dry_run: bool
    def __init__(self, change: _Optional[_Union[_registry_pb2.Change, _Mapping]] = ..., envelope: _Optional[bytes] = ..., sources: _Optional[_Iterable[_Union[SourceFile, _Mapping]]] = ..., dry_run: _Optional[bool] = ...) -> None: ...

class PublishResponse(_message.Message):
    __slots__ = ("state", "version", "problems", "approvals_needed", "epoch", "receipt")
    STATE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    APPROVALS_NEEDED_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    state: _registry_pb2.ChangeState
    version: Version
    problems: _containers.RepeatedCompositeFieldContainer[PolicyProblem]
    approvals_needed: int
    epoch: int
    receipt: _decision_pb2.Receipt
    def __init__(self, state: _Optional[_Union[_registry_pb2.ChangeState, str]] = ..., version: _Optional[_Union[Version, _Mapping]] = ..., problems: _Optional[_Iterable[_Union[PolicyProblem, _Mapping]]] = ..., approvals_needed: _Optional[int] = ..., epoch: _Optional[int] = ..., receipt: _Optional[_Union[_decision_pb2.Receipt, _Mapping]] = ...) -> None: ...

class ApproveRequest(_message.Message):
    __slots__ = ("change", "version", "envelope_digest", "approval")
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ENVELOPE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    APPROVAL_FIELD_NUMBER: _ClassVar[int]
    change: _registry_pb2.Change
    version: int
    envelope_digest: bytes
    approval: _registry_pb2.AdminSignature
    def __init__(self, change: _Optional[_Union[_registry_pb2.Change, _Mapping]] = ..., version: _Optional[int] = ..., envelope_digest: _Optional[bytes] = ..., approval: _Optional[_Union[_registry_pb2.AdminSignature, _Mapping]] = ...) -> None: ...

class ApproveResponse(_message.Message):
    __slots__ = ("version", "approvals_missing", "epoch", "receipt")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    APPROVALS_MISSING_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    version: Version
    approvals_missing: int
    epoch: int
    receipt: _decision_pb2.Receipt
    def __init__(self, version: _Optional[_Union[Version, _Mapping]] = ..., approvals_missing: _Optional[int] = ..., epoch: _Optional[int] = ..., receipt: _Optional[_Union[_decision_pb2.Receipt, _Mapping]] = ...) -> None: ...

class ActivateRequest(_message.Message):
    __slots__ = ("change", "version", "at_ms")
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    change: _registry_pb2.Change
    version: int
    at_ms: int
    def __init__(self, change: _Optional[_Union[_registry_pb2.Change, _Mapping]] = ..., version: _Optional[int] = ..., at_ms: _Optional[int] = ...) -> None: ...

class ActivateResponse(_message.Message):
    __slots__ = ("state", "version", "epoch", "waiting_for", "receipt")
    STATE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    WAITING_FOR_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    state: _registry_pb2.ChangeState
    version: Version
    epoch: int
    waiting_for: _containers.RepeatedScalarFieldContainer[str]
    receipt: _decision_pb2.Receipt
    def __init__(self, state: _Optional[_Union[_registry_pb2.ChangeState, str]] = ..., version: _Optional[_Union[Version, _Mapping]] = ..., epoch: _Optional[int] = ..., waiting_for: _Optional[_Iterable[str]] = ..., receipt: _Optional[_Union[_decision_pb2.Receipt, _Mapping]] = ...) -> None: ...

class SimulateRequest(_message.Message):
    __slots__ = ("version", "sources", "since_ms", "until_ms", "limit")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    SINCE_MS_FIELD_NUMBER: _ClassVar[int]
    UNTIL_MS_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    version: int
    sources: _containers.RepeatedCompositeFieldContainer[SourceFile]
    since_ms: int
    until_ms: int
    limit: int
    def __init__(self, version: _Optional[int] = ..., sources: _Optional[_Iterable[_Union[SourceFile, _Mapping]]] = ..., since_ms: _Optional[int] = ..., until_ms: _Optional[int] = ..., limit: _Optional[int] = ...) -> None: ...

class SimulateResponse(_message.Message):
    __slots__ = ("progress", "flip", "summary")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    FLIP_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    progress: SimulateProgress
    flip: Flip
    summary: SimulateSummary
    def __init__(self, progress: _Optional[_Union[SimulateProgress, _Mapping]] = ..., flip: _Optional[_Union[Flip, _Mapping]] = ..., summary: _Optional[_Union[SimulateSummary, _Mapping]] = ...) -> None: ...

class SimulateProgress(_message.Message):
    __slots__ = ("done", "total")
    DONE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    done: int
    total: int
    def __init__(self, done: _Optional[int] = ..., total: _Optional[int] = ...) -> None: ...

class Flip(_message.Message):
    __slots__ = ("before", "after", "reason_before", "reason_after", "rule_before", "rule_after", "purpose", "organisation", "setting", "fields", "decisions", "example_decision_id")
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    REASON_BEFORE_FIELD_NUMBER: _ClassVar[int]
    REASON_AFTER_FIELD_NUMBER: _ClassVar[int]
    RULE_BEFORE_FIELD_NUMBER: _ClassVar[int]
    RULE_AFTER_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    ORGANISATION_FIELD_NUMBER: _ClassVar[int]
    SETTING_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    DECISIONS_FIELD_NUMBER: _ClassVar[int]
    EXAMPLE_DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    before: _decision_pb2.Effect
    after: _decision_pb2.Effect
    reason_before: str
    reason_after: str
    rule_before: str
    rule_after: str
    purpose: str
    organisation: str
    setting: str
    fields: _containers.RepeatedScalarFieldContainer[str]
    decisions: int
    example_decision_id: str
    def __init__(self, before: _Optional[_Union[_decision_pb2.Effect, str]] = ..., after: _Optional[_Union[_decision_pb2.Effect, str]] = ..., reason_before: _Optional[str] = ..., reason_after: _Optional[str] = ..., rule_before: _Optional[str] = ..., rule_after: _Optional[str] = ..., purpose: _Optional[str] = ..., organisation: _Optional[str] = ..., setting: _Optional[str] = ..., fields: _Optional[_Iterable[str]] = ..., decisions: _Optional[int] = ..., example_decision_id: _Optional[str] = ...) -> None: ...

class SimulateSummary(_message.Message):
    __slots__ = ("decided", "differing", "not_replayable", "policy_digest")
    DECIDED_FIELD_NUMBER: _ClassVar[int]
    DIFFERING_FIELD_NUMBER: _ClassVar[int]
    NOT_REPLAYABLE_FIELD_NUMBER: _ClassVar[int]
    POLICY_DIGEST_FIELD_NUMBER: _ClassVar[int]
    decided: int
    differing: int
    not_replayable: int
    policy_digest: str
    def __init__(self, decided: _Optional[int] = ..., differing: _Optional[int] = ..., not_replayable: _Optional[int] = ..., policy_digest: _Optional[str] = ...) -> None: ...
