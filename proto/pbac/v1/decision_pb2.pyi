from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Action(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACTION_UNSPECIFIED: _ClassVar[Action]
    ACTION_RELEASE: _ClassVar[Action]
    ACTION_MATCH: _ClassVar[Action]
    ACTION_VERIFY: _ClassVar[Action]
    ACTION_COUNT: _ClassVar[Action]
    ACTION_LINK: _ClassVar[Action]

class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTCOME_UNSPECIFIED: _ClassVar[Outcome]
    OUTCOME_RELEASE: _ClassVar[Outcome]
    OUTCOME_PARTIAL: _ClassVar[Outcome]
    OUTCOME_WITHHOLD: _ClassVar[Outcome]

class Effect(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EFFECT_UNSPECIFIED: _ClassVar[Effect]
    EFFECT_RELEASE: _ClassVar[Effect]
    EFFECT_TRANSFORM: _ClassVar[Effect]
    EFFECT_WITHHOLD: _ClassVar[Effect]

class CounterfactualSearch(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    COUNTERFACTUAL_SEARCH_UNSPECIFIED: _ClassVar[CounterfactualSearch]
    COUNTERFACTUAL_SEARCH_ALL: _ClassVar[CounterfactualSearch]
    COUNTERFACTUAL_SEARCH_SOME: _ClassVar[CounterfactualSearch]
    COUNTERFACTUAL_SEARCH_NOTHING: _ClassVar[CounterfactualSearch]
    COUNTERFACTUAL_SEARCH_LARGER: _ClassVar[CounterfactualSearch]
    COUNTERFACTUAL_SEARCH_STOPPED: _ClassVar[CounterfactualSearch]
ACTION_UNSPECIFIED: Action
ACTION_RELEASE: Action
ACTION_MATCH: Action
ACTION_VERIFY: Action
ACTION_COUNT: Action
ACTION_LINK: Action
OUTCOME_UNSPECIFIED: Outcome
OUTCOME_RELEASE: Outcome
OUTCOME_PARTIAL: Outcome
OUTCOME_WITHHOLD: Outcome
EFFECT_UNSPECIFIED: Effect
EFFECT_RELEASE: Effect
EFFECT_TRANSFORM: Effect
EFFECT_WITHHOLD: Effect
COUNTERFACTUAL_SEARCH_UNSPECIFIED: CounterfactualSearch
COUNTERFACTUAL_SEARCH_ALL: CounterfactualSearch
COUNTERFACTUAL_SEARCH_SOME: CounterfactualSearch
COUNTERFACTUAL_SEARCH_NOTHING: CounterfactualSearch
COUNTERFACTUAL_SEARCH_LARGER: CounterfactualSearch
COUNTERFACTUAL_SEARCH_STOPPED: CounterfactualSearch

class CheckRequest(_message.Message):
    __slots__ = ("request_id", "requester_token", "agreement_id", "purposes", "action", "fields", "used_fields", "years", "record_tokens", "want_receipt", "at_least_epoch")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    REQUESTER_TOKEN_FIELD_NUMBER: _ClassVar[int]
    AGREEMENT_ID_FIELD_NUMBER: _ClassVar[int]
    PURPOSES_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    USED_FIELDS_FIELD_NUMBER: _ClassVar[int]
    YEARS_FIELD_NUMBER: _ClassVar[int]
    RECORD_TOKENS_FIELD_NUMBER: _ClassVar[int]
    WANT_RECEIPT_FIELD_NUMBER: _ClassVar[int]
    AT_LEAST_EPOCH_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    requester_token: str
    agreement_id: str
    purposes: _containers.RepeatedScalarFieldContainer[str]
    action: Action
    fields: _containers.RepeatedScalarFieldContainer[str]
    used_fields: _containers.RepeatedScalarFieldContainer[str]
    years: _containers.RepeatedScalarFieldContainer[int]
    record_tokens: _containers.RepeatedScalarFieldContainer[bytes]
    want_receipt: bool
    at_least_epoch: int
    def __init__(self, request_id: _Optional[str] = ..., requester_token: _Optional[str] = ..., agreement_id: _Optional[str] = ..., purposes: _Optional[_Iterable[str]] = ..., action: _Optional[_Union[Action, str]] = ..., fields: _Optional[_Iterable[str]] = ..., used_fields: _Optional[_Iterable[str]] = ..., years: _Optional[_Iterable[int]] = ..., record_tokens: _Optional[_Iterable[bytes]] = ..., want_receipt: _Optional[bool] = ..., at_least_epoch: _Optional[int] = ...) -> None: ...

class CheckResponse(_message.Message):
    __slots__ = ("request_id", "decision_id", "outcome", "verdicts", "obligations", "policy_digest", "policy_version", "epoch", "valid_for_ms", "receipt", "trace_id", "identification_risk", "sensitivity")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    OBLIGATIONS_FIELD_NUMBER: _ClassVar[int]
    POLICY_DIGEST_FIELD_NUMBER: _ClassVar[int]
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    VALID_FOR_MS_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    IDENTIFICATION_RISK_FIELD_NUMBER: _ClassVar[int]
    SENSITIVITY_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    decision_id: str
    outcome: Outcome
    verdicts: _containers.RepeatedCompositeFieldContainer[VerdictGroup]
    obligations: _containers.RepeatedCompositeFieldContainer[Obligation]
    policy_digest: str
    policy_version: int
    epoch: int
    valid_for_ms: int
    receipt: Receipt
    trace_id: str
    identification_risk: int
    sensitivity: str
    def __init__(self, request_id: _Optional[str] = ..., decision_id: _Optional[str] = ..., outcome: _Optional[_Union[Outcome, str]] = ..., verdicts: _Optional[_Iterable[_Union[VerdictGroup, _Mapping]]] = ..., obligations: _Optional[_Iterable[_Union[Obligation, _Mapping]]] = ..., policy_digest: _Optional[str] = ..., policy_version: _Optional[int] = ..., epoch: _Optional[int] = ..., valid_for_ms: _Optional[int] = ..., receipt: _Optional[_Union[Receipt, _Mapping]] = ..., trace_id: _Optional[str] = ..., identification_risk: _Optional[int] = ..., sensitivity: _Optional[str] = ...) -> None: ...

class VerdictGroup(_message.Message):
    __slots__ = ("effect", "reason", "rule", "transform", "fields")
    EFFECT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    TRANSFORM_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    effect: Effect
    reason: str
    rule: str
    transform: _containers.RepeatedCompositeFieldContainer[TransformStep]
    fields: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, effect: _Optional[_Union[Effect, str]] = ..., reason: _Optional[str] = ..., rule: _Optional[str] = ..., transform: _Optional[_Iterable[_Union[TransformStep, _Mapping]]] = ..., fields: _Optional[_Iterable[str]] = ...) -> None: ...

class TransformStep(_message.Message):
    __slots__ = ("pseudonymise", "generalise", "band", "round", "top_code")
    PSEUDONYMISE_FIELD_NUMBER: _ClassVar[int]
    GENERALISE_FIELD_NUMBER: _ClassVar[int]
    BAND_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    TOP_CODE_FIELD_NUMBER: _ClassVar[int]
    pseudonymise: Pseudonymise
    generalise: Generalise
    band: Band
    round: Round
    top_code: TopCode
    def __init__(self, pseudonymise: _Optional[_Union[Pseudonymise, _Mapping]] = ..., generalise: _Optional[_Union[Generalise, _Mapping]] = ..., band: _Optional[_Union[Band, _Mapping]] = ..., round: _Optional[_Union[Round, _Mapping]] = ..., top_code: _Optional[_Union[TopCode, _Mapping]] = ...) -> None: ...

class Pseudonymise(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Generalise(_message.Message):
    __slots__ = ("to",)
    TO_FIELD_NUMBER: _ClassVar[int]
    to: str
    def __init__(self, to: _Optional[str] = ...) -> None: ...

class Band(_message.Message):
    __slots__ = ("width",)
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    width: int
    def __init__(self, width: _Optional[int] = ...) -> None: ...

class Round(_message.Message):
    __slots__ = ("to",)
    TO_FIELD_NUMBER: _ClassVar[int]
    to: int
    def __init__(self, to: _Optional[int] = ...) -> None: ...

class TopCode(_message.Message):
    __slots__ = ("at",)
    AT_FIELD_NUMBER: _ClassVar[int]
    at: int
    def __init__(self, at: _Optional[int] = ...) -> None: ...

class Obligation(_message.Message):
    __slots__ = ("exclude_sealed", "rows", "min_cell_count", "round_to", "retention_days", "output_check", "publish_in_register", "setting")
    EXCLUDE_SEALED_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    MIN_CELL_COUNT_FIELD_NUMBER: _ClassVar[int]
    ROUND_TO_FIELD_NUMBER: _ClassVar[int]
    RETENTION_DAYS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_CHECK_FIELD_NUMBER: _ClassVar[int]
    PUBLISH_IN_REGISTER_FIELD_NUMBER: _ClassVar[int]
    SETTING_FIELD_NUMBER: _ClassVar[int]
    exclude_sealed: ExcludeSealed
    rows: Rows
    min_cell_count: int
    round_to: int
    retention_days: int
    output_check: bool
    publish_in_register: bool
    setting: str
    def __init__(self, exclude_sealed: _Optional[_Union[ExcludeSealed, _Mapping]] = ..., rows: _Optional[_Union[Rows, _Mapping]] = ..., min_cell_count: _Optional[int] = ..., round_to: _Optional[int] = ..., retention_days: _Optional[int] = ..., output_check: _Optional[bool] = ..., publish_in_register: _Optional[bool] = ..., setting: _Optional[str] = ...) -> None: ...

class ExcludeSealed(_message.Message):
    __slots__ = ("epoch",)
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    def __init__(self, epoch: _Optional[int] = ...) -> None: ...

class Rows(_message.Message):
    __slots__ = ("years", "local_authorities", "by_local_authority")
    YEARS_FIELD_NUMBER: _ClassVar[int]
    LOCAL_AUTHORITIES_FIELD_NUMBER: _ClassVar[int]
    BY_LOCAL_AUTHORITY_FIELD_NUMBER: _ClassVar[int]
    years: _containers.RepeatedScalarFieldContainer[int]
    local_authorities: _containers.RepeatedScalarFieldContainer[str]
    by_local_authority: bool
    def __init__(self, years: _Optional[_Iterable[int]] = ..., local_authorities: _Optional[_Iterable[str]] = ..., by_local_authority: _Optional[bool] = ...) -> None: ...

class Receipt(_message.Message):
    __slots__ = ("origin", "index", "leaf", "proof", "checkpoint", "checkpoint_number")
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    LEAF_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_NUMBER_FIELD_NUMBER: _ClassVar[int]
    origin: str
    index: int
    leaf: bytes
    proof: _containers.RepeatedScalarFieldContainer[bytes]
    checkpoint: str
    checkpoint_number: int
    def __init__(self, origin: _Optional[str] = ..., index: _Optional[int] = ..., leaf: _Optional[bytes] = ..., proof: _Optional[_Iterable[bytes]] = ..., checkpoint: _Optional[str] = ..., checkpoint_number: _Optional[int] = ...) -> None: ...

class BatchCheckRequest(_message.Message):
    __slots__ = ("checks",)
    CHECKS_FIELD_NUMBER: _ClassVar[int]
    checks: _containers.RepeatedCompositeFieldContainer[CheckRequest]
    def __init__(self, checks: _Optional[_Iterable[_Union[CheckRequest, _Mapping]]] = ...) -> None: ...

class BatchCheckResponse(_message.Message):
    __slots__ = ("answers", "checkpoints")
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINTS_FIELD_NUMBER: _ClassVar[int]
    answers: _containers.RepeatedCompositeFieldContainer[CheckResponse]
    checkpoints: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, answers: _Optional[_Iterable[_Union[CheckResponse, _Mapping]]] = ..., checkpoints: _Optional[_Iterable[str]] = ...) -> None: ...

class StreamChecksRequest(_message.Message):
    __slots__ = ("checks",)
    CHECKS_FIELD_NUMBER: _ClassVar[int]
    checks: _containers.RepeatedCompositeFieldContainer[CheckRequest]
    def __init__(self, checks: _Optional[_Iterable[_Union[CheckRequest, _Mapping]]] = ...) -> None: ...

class StreamChecksResponse(_message.Message):
    __slots__ = ("answers", "checkpoints")
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINTS_FIELD_NUMBER: _ClassVar[int]
    answers: _containers.RepeatedCompositeFieldContainer[CheckResponse]
    checkpoints: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, answers: _Optional[_Iterable[_Union[CheckResponse, _Mapping]]] = ..., checkpoints: _Optional[_Iterable[str]] = ...) -> None: ...

class ExplainRequest(_message.Message):
    __slots__ = ("check",)
    CHECK_FIELD_NUMBER: _ClassVar[int]
    check: CheckRequest
    def __init__(self, check: _Optional[_Union[CheckRequest, _Mapping]] = ...) -> None: ...

class ExplainResponse(_message.Message):
    __slots__ = ("answer", "steps", "groups", "not_shown", "counterfactuals")
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    NOT_SHOWN_FIELD_NUMBER: _ClassVar[int]
    COUNTERFACTUALS_FIELD_NUMBER: _ClassVar[int]
    answer: CheckResponse
    steps: _containers.RepeatedCompositeFieldContainer[ExplainStep]
    groups: _containers.RepeatedCompositeFieldContainer[ExplainGroup]
    not_shown: int
    counterfactuals: _containers.RepeatedCompositeFieldContainer[Counterfactual]
    def __init__(self, answer: _Optional[_Union[CheckResponse, _Mapping]] = ..., steps: _Optional[_Iterable[_Union[ExplainStep, _Mapping]]] = ..., groups: _Optional[_Iterable[_Union[ExplainGroup, _Mapping]]] = ..., not_shown: _Optional[int] = ..., counterfactuals: _Optional[_Iterable[_Union[Counterfactual, _Mapping]]] = ...) -> None: ...

class Counterfactual(_message.Message):
    __slots__ = ("verdict", "fields", "search", "sets")
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    SEARCH_FIELD_NUMBER: _ClassVar[int]
    SETS_FIELD_NUMBER: _ClassVar[int]
    verdict: int
    fields: _containers.RepeatedScalarFieldContainer[str]
    search: CounterfactualSearch
    sets: _containers.RepeatedCompositeFieldContainer[FactChangeSet]
    def __init__(self, verdict: _Optional[int] = ..., fields: _Optional[_Iterable[str]] = ..., search: _Optional[_Union[CounterfactualSearch, str]] = ..., sets: _Optional[_Iterable[_Union[FactChangeSet, _Mapping]]] = ...) -> None: ...

class FactChangeSet(_message.Message):
    __slots__ = ("changes",)
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    changes: _containers.RepeatedCompositeFieldContainer[FactChange]
    def __init__(self, changes: _Optional[_Iterable[_Union[FactChange, _Mapping]]] = ...) -> None: ...

class FactChange(_message.Message):
    __slots__ = ("entry", "id", "member", "values", "text")
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    entry: str
    id: str
    member: str
    values: _containers.RepeatedScalarFieldContainer[str]
    text: str
    def __init__(self, entry: _Optional[str] = ..., id: _Optional[str] = ..., member: _Optional[str] = ..., values: _Optional[_Iterable[str]] = ..., text: _Optional[str] = ...) -> None: ...

class ExplainGroup(_message.Message):
    __slots__ = ("steps",)
    STEPS_FIELD_NUMBER: _ClassVar[int]
    steps: _containers.RepeatedCompositeFieldContainer[ExplainStep]
    def __init__(self, steps: _Optional[_Iterable[_Union[ExplainStep, _Mapping]]] = ...) -> None: ...

class ExplainStep(_message.Message):
    __slots__ = ("check", "result", "why", "place", "reason", "purpose", "fields", "conditions")
    CHECK_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    CONDITIONS_FIELD_NUMBER: _ClassVar[int]
    check: str
    result: str
    why: str
    place: str
    reason: str
    purpose: str
    fields: int
    conditions: _containers.RepeatedCompositeFieldContainer[ExplainCondition]
    def __init__(self, check: _Optional[str] = ..., result: _Optional[str] = ..., why: _Optional[str] = ..., place: _Optional[str] = ..., reason: _Optional[str] = ..., purpose: _Optional[str] = ..., fields: _Optional[int] = ..., conditions: _Optional[_Iterable[_Union[ExplainCondition, _Mapping]]] = ...) -> None: ...

class ExplainCondition(_message.Message):
    __slots__ = ("attribute", "condition", "value", "source", "result", "clause", "alternative")
    ATTRIBUTE_FIELD_NUMBER: _ClassVar[int]
    CONDITION_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    CLAUSE_FIELD_NUMBER: _ClassVar[int]
    ALTERNATIVE_FIELD_NUMBER: _ClassVar[int]
    attribute: str
    condition: str
    value: str
    source: str
    result: str
    clause: int
    alternative: int
    def __init__(self, attribute: _Optional[str] = ..., condition: _Optional[str] = ..., value: _Optional[str] = ..., source: _Optional[str] = ..., result: _Optional[str] = ..., clause: _Optional[int] = ..., alternative: _Optional[int] = ...) -> None: ...

class ListFieldsRequest(_message.Message):
    __slots__ = ("request_id", "requester_token", "agreement_id", "purposes", "action", "table", "at_least_epoch")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    REQUESTER_TOKEN_FIELD_NUMBER: _ClassVar[int]
    AGREEMENT_ID_FIELD_NUMBER: _ClassVar[int]
    PURPOSES_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    TABLE_FIELD_NUMBER: _ClassVar[int]
    AT_LEAST_EPOCH_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    requester_token: str
    agreement_id: str
    purposes: _containers.RepeatedScalarFieldContainer[str]
    action: Action
    table: str
    at_least_epoch: int
    def __init__(self, request_id: _Optional[str] = ..., requester_token: _Optional[str] = ..., agreement_id: _Optional[str] = ..., purposes: _Optional[_Iterable[str]] = ..., action: _Optional[_Union[Action, str]] = ..., table: _Optional[str] = ..., at_least_epoch: _Optional[int] = ...) -> None: ...

class ListFieldsResponse(_message.Message):
    __slots__ = ("decision_id", "verdicts", "obligations", "request_id", "outcome", "policy_digest", "policy_version", "epoch", "receipt", "trace_id", "identification_risk", "sensitivity")
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    OBLIGATIONS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    POLICY_DIGEST_FIELD_NUMBER: _ClassVar[int]
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    IDENTIFICATION_RISK_FIELD_NUMBER: _ClassVar[int]
    SENSITIVITY_FIELD_NUMBER: _ClassVar[int]
    decision_id: str
    verdicts: _containers.RepeatedCompositeFieldContainer[VerdictGroup]
    obligations: _containers.RepeatedCompositeFieldContainer[Obligation]
    request_id: str
    outcome: Outcome
    policy_digest: str
    policy_version: int
    epoch: int
    receipt: Receipt
    trace_id: str
    identification_risk: int
    sensitivity: str
    def __init__(self, decision_id: _Optional[str] = ..., verdicts: _Optional[_Iterable[_Union[VerdictGroup, _Mapping]]] = ..., obligations: _Optional[_Iterable[_Union[Obligation, _Mapping]]] = ..., request_id: _Optional[str] = ..., outcome: _Optional[_Union[Outcome, str]] = ..., policy_digest: _Optional[str] = ..., policy_version: _Optional[int] = ..., epoch: _Optional[int] = ..., receipt: _Optional[_Union[Receipt, _Mapping]] = ..., trace_id: _Optional[str] = ..., identification_risk: _Optional[int] = ..., sensitivity: _Optional[str] = ...) -> None: ...

class ReportReleaseRequest(_message.Message):
    __slots__ = ("decision_id", "rows", "obligations_met", "result_digest", "checkpoints", "report_id")
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    OBLIGATIONS_MET_FIELD_NUMBER: _ClassVar[int]
    RESULT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINTS_FIELD_NUMBER: _ClassVar[int]
    REPORT_ID_FIELD_NUMBER: _ClassVar[int]
    decision_id: str
    rows: int
    obligations_met: _containers.RepeatedScalarFieldContainer[str]
    result_digest: bytes
    checkpoints: _containers.RepeatedScalarFieldContainer[str]
    report_id: str
    def __init__(self, decision_id: _Optional[str] = ..., rows: _Optional[int] = ..., obligations_met: _Optional[_Iterable[str]] = ..., result_digest: _Optional[bytes] = ..., checkpoints: _Optional[_Iterable[str]] = ..., report_id: _Optional[str] = ...) -> None: ...

class ReportReleaseResponse(_message.Message):
    __slots__ = ("receipt",)
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    receipt: Receipt
    def __init__(self, receipt: _Optional[_Union[Receipt, _Mapping]] = ...) -> None: ...
