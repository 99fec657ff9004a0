from pbac.v1 import decision_pb2 as _decision_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RecordKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RECORD_KIND_UNSPECIFIED: _ClassVar[RecordKind]
    RECORD_KIND_DECISION: _ClassVar[RecordKind]
    RECORD_KIND_RELEASE: _ClassVar[RecordKind]
    RECORD_KIND_STATE_CHANGE: _ClassVar[RecordKind]
    RECORD_KIND_ACTIVATION: _ClassVar[RecordKind]
    RECORD_KIND_READING: _ClassVar[RecordKind]

class ReleaseState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RELEASE_STATE_UNSPECIFIED: _ClassVar[ReleaseState]
    RELEASE_STATE_NONE_DUE: _ClassVar[ReleaseState]
    RELEASE_STATE_OPEN: _ClassVar[ReleaseState]
    RELEASE_STATE_REPORTED: _ClassVar[ReleaseState]
    RELEASE_STATE_UNRESOLVED: _ClassVar[ReleaseState]

class SearchOrder(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SEARCH_ORDER_UNSPECIFIED: _ClassVar[SearchOrder]
    SEARCH_ORDER_LATEST_FIRST: _ClassVar[SearchOrder]
    SEARCH_ORDER_OLDEST_FIRST: _ClassVar[SearchOrder]
RECORD_KIND_UNSPECIFIED: RecordKind
RECORD_KIND_DECISION: RecordKind
RECORD_KIND_RELEASE: RecordKind
RECORD_KIND_STATE_CHANGE: RecordKind
RECORD_KIND_ACTIVATION: RecordKind
RECORD_KIND_READING: RecordKind
RELEASE_STATE_UNSPECIFIED: ReleaseState
RELEASE_STATE_NONE_DUE: ReleaseState
RELEASE_STATE_OPEN: ReleaseState
RELEASE_STATE_REPORTED: ReleaseState
RELEASE_STATE_UNRESOLVED: ReleaseState
SEARCH_ORDER_UNSPECIFIED: SearchOrder
SEARCH_ORDER_LATEST_FIRST: SearchOrder
SEARCH_ORDER_OLDEST_FIRST: SearchOrder

class SearchDecisionsRequest(_message.Message):
    __slots__ = ("why", "since_ms", "until_ms", "requesters", "organisations", "agreements", "purposes", "actions", "fields", "effects", "outcomes", "reasons", "rules", "policy_versions", "data_services", "trace_ids", "epoch_from", "epoch_to", "identification_risk_at_most", "sensitivity", "releases", "order", "page_size", "page_token", "record_token")
    WHY_FIELD_NUMBER: _ClassVar[int]
    SINCE_MS_FIELD_NUMBER: _ClassVar[int]
    UNTIL_MS_FIELD_NUMBER: _ClassVar[int]
    REQUESTERS_FIELD_NUMBER: _ClassVar[int]
    ORGANISATIONS_FIELD_NUMBER: _ClassVar[int]
    AGREEMENTS_FIELD_NUMBER: _ClassVar[int]
    PURPOSES_FIELD_NUMBER: _ClassVar[int]
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    EFFECTS_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    POLICY_VERSIONS_FIELD_NUMBER: _ClassVar[int]
    DATA_SERVICES_FIELD_NUMBER: _ClassVar[int]
    TRACE_IDS_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FROM_FIELD_NUMBER: _ClassVar[int]
    EPOCH_TO_FIELD_NUMBER: _ClassVar[int]
    IDENTIFICATION_RISK_AT_MOST_FIELD_NUMBER: _ClassVar[int]
    SENSITIVITY_FIELD_NUMBER: _ClassVar[int]
    RELEASES_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    RECORD_TOKEN_FIELD_NUMBER: _ClassVar[int]
    why: str
    since_ms: int
    until_ms: int
    requesters: _containers.RepeatedScalarFieldContainer[str]
    organisations: _containers.RepeatedScalarFieldContainer[str]
    agreements: _containers.RepeatedScalarFieldContainer[str]
    purposes: _containers.RepeatedScalarFieldContainer[str]
    actions: _containers.RepeatedScalarFieldContainer[_decision_pb2.Action]
    fields: _containers.RepeatedScalarFieldContainer[str]
    effects: _containers.RepeatedScalarFieldContainer[_decision_pb2.Effect]
    outcomes: _containers.RepeatedScalarFieldContainer[_decision_pb2.Outcome]
    reasons: _containers.RepeatedScalarFieldContainer[str]
    rules: _containers.RepeatedScalarFieldContainer[str]
    policy_versions: _containers.RepeatedScalarFieldContainer[int]
    data_services: _containers.RepeatedScalarFieldContainer[str]
    trace_ids: _containers.RepeatedScalarFieldContainer[str]
    epoch_from: int
    epoch_to: int
    identification_risk_at_most: int
    sensitivity: str
    releases: _containers.RepeatedScalarFieldContainer[ReleaseState]
    order: SearchOrder
    page_size: int
    page_token: str
    record_token: bytes
    def __init__(self, why: _Optional[str] = ..., since_ms: _Optional[int] = ..., until_ms: _Optional[int] = ..., requesters: _Optional[_Iterable[str]] = ..., organisations: _Optional[_Iterable[str]] = ..., agreements: _Optional[_Iterable[str]] = ..., purposes: _Optional[_Iterable[str]] = ..., actions: _Optional[_Iterable[_Union[_decision_pb2.Action, str]]] = ..., fields: _Optional[_Iterable[str]] = ..., effects: _Optional[_Iterable[_Union[_decision_pb2.Effect, str]]] = ..., outcomes: _Optional[_Iterable[_Union[_decision_pb2.Outcome, str]]] = ..., reasons: _Optional[_Iterable[str]] = ..., rules: _Optional[_Iterable[str]] = ..., policy_versions: _Optional[_Iterable[int]] = ..., data_services: _Optional[_Iterable[str]] = ..., trace_ids: _Optional[_Iterable[str]] = ..., epoch_from: _Optional[int] = ..., epoch_to: _Optional[int] = ..., identification_risk_at_most: _Optional[int] = ..., sensitivity: _Optional[str] = ..., releases: _Optional[_Iterable[_Union[ReleaseState, str]]] = ..., order: _Optional[_Union[SearchOrder, str]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., record_token: _Optional[bytes] = ...) -> None: ...

class SearchDecisionsResponse(_message.Message):
    __slots__ = ("decisions", "next_page_token", "total", "checkpoint")
    DECISIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    decisions: _containers.RepeatedCompositeFieldContainer[DecisionSummary]
    next_page_token: str
    total: int
    checkpoint: str
    def __init__(self, decisions: _Optional[_Iterable[_Union[DecisionSummary, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., total: _Optional[int] = ..., checkpoint: _Optional[str] = ...) -> None: ...

class DecisionSummary(_message.Message):
    __slots__ = ("decision_id", "origin", "index", "at_ms", "outcome", "requester_pseudonym", "organisation", "agreement", "purposes", "action", "data_service", "released", "transformed", "withheld", "policy_version", "epoch", "trace_id", "identification_risk", "sensitivity", "release")
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    REQUESTER_PSEUDONYM_FIELD_NUMBER: _ClassVar[int]
    ORGANISATION_FIELD_NUMBER: _ClassVar[int]
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    PURPOSES_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    DATA_SERVICE_FIELD_NUMBER: _ClassVar[int]
    RELEASED_FIELD_NUMBER: _ClassVar[int]
    TRANSFORMED_FIELD_NUMBER: _ClassVar[int]
    WITHHELD_FIELD_NUMBER: _ClassVar[int]
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    IDENTIFICATION_RISK_FIELD_NUMBER: _ClassVar[int]
    SENSITIVITY_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    decision_id: str
    origin: str
    index: int
    at_ms: int
    outcome: _decision_pb2.Outcome
    requester_pseudonym: str
    organisation: str
    agreement: str
    purposes: _containers.RepeatedScalarFieldContainer[str]
    action: _decision_pb2.Action
    data_service: str
    released: int
    transformed: int
    withheld: int
    policy_version: int
    epoch: int
    trace_id: str
    identification_risk: int
    sensitivity: str
    release: ReleaseState
    def __init__(self, decision_id: _Optional[str] = ..., origin: _Optional[str] = ..., index: _Optional[int] = ..., at_ms: _Optional[int] = ..., outcome: _Optional[_Union[_decision_pb2.Outcome, str]] = ..., requester_pseudonym: _Optional[str] = ..., organisation: _Optional[str] = ..., agreement: _Optional[str] = ..., purposes: _Optional[_Iterable[str]] = ..., action: _Optional[_Union[_decision_pb2.Action, str]] = ..., data_service: _Optional[str] = ..., released: _Optional[int] = ..., transformed: _Optional[int] = ..., withheld: _Optional[int] = ..., policy_version: _Optional[int] = ..., epoch: _Optional[int] = ..., trace_id: _Optional[str] = ..., identification_risk: _Optional[int] = ..., sensitivity: _Optional[str] = ..., release: _Optional[_Union[ReleaseState, str]] = ...) -> None: ...

class GetDecisionRequest(_message.Message):
    __slots__ = ("why", "decision_id", "trace_id")
    WHY_FIELD_NUMBER: _ClassVar[int]
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    why: str
    decision_id: str
    trace_id: str
    def __init__(self, why: _Optional[str] = ..., decision_id: _Optional[str] = ..., trace_id: _Optional[str] = ...) -> None: ...

class GetDecisionResponse(_message.Message):
    __slots__ = ("summary", "verdicts", "obligations", "policy_digest", "leaf", "facts", "detail_erased", "steps", "release", "request_digest", "answer_digest")
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    OBLIGATIONS_FIELD_NUMBER: _ClassVar[int]
    POLICY_DIGEST_FIELD_NUMBER: _ClassVar[int]
    LEAF_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    DETAIL_ERASED_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_DIGEST_FIELD_NUMBER: _ClassVar[int]
    ANSWER_DIGEST_FIELD_NUMBER: _ClassVar[int]
    summary: DecisionSummary
    verdicts: _containers.RepeatedCompositeFieldContainer[_decision_pb2.VerdictGroup]
    obligations: _containers.RepeatedCompositeFieldContainer[_decision_pb2.Obligation]
    policy_digest: str
    leaf: bytes
    facts: _containers.RepeatedCompositeFieldContainer[Fact]
    detail_erased: bool
    steps: _containers.RepeatedCompositeFieldContainer[_decision_pb2.ExplainStep]
    release: ReportedRelease
    request_digest: bytes
    answer_digest: bytes
    def __init__(self, summary: _Optional[_Union[DecisionSummary, _Mapping]] = ..., verdicts: _Optional[_Iterable[_Union[_decision_pb2.VerdictGroup, _Mapping]]] = ..., obligations: _Optional[_Iterable[_Union[_decision_pb2.Obligation, _Mapping]]] = ..., policy_digest: _Optional[str] = ..., leaf: _Optional[bytes] = ..., facts: _Optional[_Iterable[_Union[Fact, _Mapping]]] = ..., detail_erased: _Optional[bool] = ..., steps: _Optional[_Iterable[_Union[_decision_pb2.ExplainStep, _Mapping]]] = ..., release: _Optional[_Union[ReportedRelease, _Mapping]] = ..., request_digest: _Optional[bytes] = ..., answer_digest: _Optional[bytes] = ...) -> None: ...

class Fact(_message.Message):
    __slots__ = ("name", "value", "source")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    source: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ..., source: _Optional[str] = ...) -> None: ...

class ReportedRelease(_message.Message):
    __slots__ = ("at_ms", "rows", "obligations_met", "result_digest", "receipt")
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    OBLIGATIONS_MET_FIELD_NUMBER: _ClassVar[int]
    RESULT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    at_ms: int
    rows: int
    obligations_met: _containers.RepeatedScalarFieldContainer[str]
    result_digest: bytes
    receipt: _decision_pb2.Receipt
    def __init__(self, at_ms: _Optional[int] = ..., rows: _Optional[int] = ..., obligations_met: _Optional[_Iterable[str]] = ..., result_digest: _Optional[bytes] = ..., receipt: _Optional[_Union[_decision_pb2.Receipt, _Mapping]] = ...) -> None: ...

class ReplayDecisionRequest(_message.Message):
    __slots__ = ("why", "decision_id")
    WHY_FIELD_NUMBER: _ClassVar[int]
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    why: str
    decision_id: str
    def __init__(self, why: _Optional[str] = ..., decision_id: _Optional[str] = ...) -> None: ...

class ReplayDecisionResponse(_message.Message):
    __slots__ = ("same", "recorded", "replayed", "differences")
    SAME_FIELD_NUMBER: _ClassVar[int]
    RECORDED_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCES_FIELD_NUMBER: _ClassVar[int]
    same: bool
    recorded: bytes
    replayed: bytes
    differences: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, same: _Optional[bool] = ..., recorded: _Optional[bytes] = ..., replayed: _Optional[bytes] = ..., differences: _Optional[_Iterable[str]] = ...) -> None: ...

class GetCheckpointRequest(_message.Message):
    __slots__ = ("origin",)
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    origin: str
    def __init__(self, origin: _Optional[str] = ...) -> None: ...

class GetCheckpointResponse(_message.Message):
    __slots__ = ("checkpoint", "size")
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    checkpoint: str
    size: int
    def __init__(self, checkpoint: _Optional[str] = ..., size: _Optional[int] = ...) -> None: ...

class GetInclusionProofRequest(_message.Message):
    __slots__ = ("origin", "index", "decision_id", "size")
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    origin: str
    index: int
    decision_id: str
    size: int
    def __init__(self, origin: _Optional[str] = ..., index: _Optional[int] = ..., decision_id: _Optional[str] = ..., size: _Optional[int] = ...) -> None: ...

class GetInclusionProofResponse(_message.Message):
    __slots__ = ("index", "size", "leaf", "proof", "checkpoint")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    LEAF_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    index: int
    size: int
    leaf: bytes
    proof: _containers.RepeatedScalarFieldContainer[bytes]
    checkpoint: str
    def __init__(self, index: _Optional[int] = ..., size: _Optional[int] = ..., leaf: _Optional[bytes] = ..., proof: _Optional[_Iterable[bytes]] = ..., checkpoint: _Optional[str] = ...) -> None: ...

class GetConsistencyProofRequest(_message.Message):
    __slots__ = ("origin", "old_size", "new_size")
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    OLD_SIZE_FIELD_NUMBER: _ClassVar[int]
    NEW_SIZE_FIELD_NUMBER: _ClassVar[int]
    origin: str
    old_size: int
    new_size: int
    def __init__(self, origin: _Optional[str] = ..., old_size: _Optional[int] = ..., new_size: _Optional[int] = ...) -> None: ...

class GetConsistencyProofResponse(_message.Message):
    __slots__ = ("new_size", "proof", "checkpoint")
    NEW_SIZE_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    new_size: int
    proof: _containers.RepeatedScalarFieldContainer[bytes]
    checkpoint: str
    def __init__(self, new_size: _Optional[int] = ..., proof: _Optional[_Iterable[bytes]] = ..., checkpoint: _Optional[str] = ...) -> None: ...

class StreamRecordsRequest(_message.Message):
    __slots__ = ("why", "origin", "from_index", "limit", "kinds", "follow")
    WHY_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    FROM_INDEX_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    KINDS_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    why: str
    origin: str
    from_index: int
    limit: int
    kinds: _containers.RepeatedScalarFieldContainer[RecordKind]
    follow: bool
    def __init__(self, why: _Optional[str] = ..., origin: _Optional[str] = ..., from_index: _Optional[int] = ..., limit: _Optional[int] = ..., kinds: _Optional[_Iterable[_Union[RecordKind, str]]] = ..., follow: _Optional[bool] = ...) -> None: ...

class StreamRecordsResponse(_message.Message):
    __slots__ = ("records", "checkpoint")
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    records: _containers.RepeatedCompositeFieldContainer[LedgerRecord]
    checkpoint: str
    def __init__(self, records: _Optional[_Iterable[_Union[LedgerRecord, _Mapping]]] = ..., checkpoint: _Optional[str] = ...) -> None: ...

class LedgerRecord(_message.Message):
    __slots__ = ("index", "kind", "leaf")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    LEAF_FIELD_NUMBER: _ClassVar[int]
    index: int
    kind: RecordKind
    leaf: bytes
    def __init__(self, index: _Optional[int] = ..., kind: _Optional[_Union[RecordKind, str]] = ..., leaf: _Optional[bytes] = ...) -> None: ...
