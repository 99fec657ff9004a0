from pbac.v1 import decision_pb2 as _decision_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EntryKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ENTRY_KIND_UNSPECIFIED: _ClassVar[EntryKind]
    ENTRY_KIND_ORGANISATION: _ClassVar[EntryKind]
    ENTRY_KIND_REQUESTER: _ClassVar[EntryKind]
    ENTRY_KIND_ACCREDITATION: _ClassVar[EntryKind]
    ENTRY_KIND_DATA_SERVICE: _ClassVar[EntryKind]
    ENTRY_KIND_AGREEMENT: _ClassVar[EntryKind]

class EntryStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ENTRY_STATUS_UNSPECIFIED: _ClassVar[EntryStatus]
    ENTRY_STATUS_ACTIVE: _ClassVar[EntryStatus]
    ENTRY_STATUS_SUSPENDED: _ClassVar[EntryStatus]

class AccreditationLevel(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACCREDITATION_LEVEL_UNSPECIFIED: _ClassVar[AccreditationLevel]
    ACCREDITATION_LEVEL_FULL: _ClassVar[AccreditationLevel]
    ACCREDITATION_LEVEL_PROVISIONAL: _ClassVar[AccreditationLevel]

class ChangeState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CHANGE_STATE_UNSPECIFIED: _ClassVar[ChangeState]
    CHANGE_STATE_PLANNED: _ClassVar[ChangeState]
    CHANGE_STATE_AWAITING_APPROVAL: _ClassVar[ChangeState]
    CHANGE_STATE_PENDING: _ClassVar[ChangeState]
    CHANGE_STATE_IN_FORCE: _ClassVar[ChangeState]
    CHANGE_STATE_REFUSED: _ClassVar[ChangeState]

class DifferenceKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DIFFERENCE_KIND_UNSPECIFIED: _ClassVar[DifferenceKind]
    DIFFERENCE_KIND_ADDED: _ClassVar[DifferenceKind]
    DIFFERENCE_KIND_CHANGED: _ClassVar[DifferenceKind]
    DIFFERENCE_KIND_UNCHANGED: _ClassVar[DifferenceKind]
ENTRY_KIND_UNSPECIFIED: EntryKind
ENTRY_KIND_ORGANISATION: EntryKind
ENTRY_KIND_REQUESTER: EntryKind
ENTRY_KIND_ACCREDITATION: EntryKind
ENTRY_KIND_DATA_SERVICE: EntryKind
ENTRY_KIND_AGREEMENT: EntryKind
ENTRY_STATUS_UNSPECIFIED: EntryStatus
ENTRY_STATUS_ACTIVE: EntryStatus
ENTRY_STATUS_SUSPENDED: EntryStatus
ACCREDITATION_LEVEL_UNSPECIFIED: AccreditationLevel
ACCREDITATION_LEVEL_FULL: AccreditationLevel
ACCREDITATION_LEVEL_PROVISIONAL: AccreditationLevel
CHANGE_STATE_UNSPECIFIED: ChangeState
CHANGE_STATE_PLANNED: ChangeState
CHANGE_STATE_AWAITING_APPROVAL: ChangeState
CHANGE_STATE_PENDING: ChangeState
CHANGE_STATE_IN_FORCE: ChangeState
CHANGE_STATE_REFUSED: ChangeState
DIFFERENCE_KIND_UNSPECIFIED: DifferenceKind
DIFFERENCE_KIND_ADDED: DifferenceKind
DIFFERENCE_KIND_CHANGED: DifferenceKind
DIFFERENCE_KIND_UNCHANGED: DifferenceKind

class Change(_message.Message):
    __slots__ = ("change_id", "previous_hash", "why", "signatures", "asked_at_ms", "who")
    CHANGE_ID_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_HASH_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    SIGNATURES_FIELD_NUMBER: _ClassVar[int]
    ASKED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    WHO_FIELD_NUMBER: _ClassVar[int]
    change_id: str
    previous_hash: bytes
    why: str
    signatures: _containers.RepeatedCompositeFieldContainer[AdminSignature]
    asked_at_ms: int
    who: str
    def __init__(self, change_id: _Optional[str] = ..., previous_hash: _Optional[bytes] = ..., why: _Optional[str] = ..., signatures: _Optional[_Iterable[_Union[AdminSignature, _Mapping]]] = ..., asked_at_ms: _Optional[int] = ..., who: _Optional[str] = ...) -> None: ...

class AdminSignature(_message.Message):
    __slots__ = ("key_id", "signature")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    key_id: str
    signature: bytes
    def __init__(self, key_id: _Optional[str] = ..., signature: _Optional[bytes] = ...) -> None: ...

class Entry(_message.Message):
    __slots__ = ("organisation", "requester", "accreditation", "data_service", "agreement")
    ORGANISATION_FIELD_NUMBER: _ClassVar[int]
    REQUESTER_FIELD_NUMBER: _ClassVar[int]
    ACCREDITATION_FIELD_NUMBER: _ClassVar[int]
    DATA_SERVICE_FIELD_NUMBER: _ClassVar[int]
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    organisation: Organisation
    requester: Requester
    accreditation: Accreditation
    data_service: DataService
    agreement: Agreement
    def __init__(self, organisation: _Optional[_Union[Organisation, _Mapping]] = ..., requester: _Optional[_Union[Requester, _Mapping]] = ..., accreditation: _Optional[_Union[Accreditation, _Mapping]] = ..., data_service: _Optional[_Union[DataService, _Mapping]] = ..., agreement: _Optional[_Union[Agreement, _Mapping]] = ...) -> None: ...

class Organisation(_message.Message):
    __slots__ = ("id", "kind", "commercial", "status", "legal_name", "verified_at_ms", "changed_at_ms", "local_authorities")
    ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    COMMERCIAL_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    LEGAL_NAME_FIELD_NUMBER: _ClassVar[int]
    VERIFIED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    CHANGED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    LOCAL_AUTHORITIES_FIELD_NUMBER: _ClassVar[int]
    id: str
    kind: str
    commercial: bool
    status: EntryStatus
    legal_name: str
    verified_at_ms: int
    changed_at_ms: int
    local_authorities: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, id: _Optional[str] = ..., kind: _Optional[str] = ..., commercial: _Optional[bool] = ..., status: _Optional[_Union[EntryStatus, str]] = ..., legal_name: _Optional[str] = ..., verified_at_ms: _Optional[int] = ..., changed_at_ms: _Optional[int] = ..., local_authorities: _Optional[_Iterable[str]] = ...) -> None: ...

class Requester(_message.Message):
    __slots__ = ("id", "organisation", "issuer", "subject", "status", "roles")
    ID_FIELD_NUMBER: _ClassVar[int]
    ORGANISATION_FIELD_NUMBER: _ClassVar[int]
    ISSUER_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    ROLES_FIELD_NUMBER: _ClassVar[int]
    id: str
    organisation: str
    issuer: str
    subject: str
    status: EntryStatus
    roles: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, id: _Optional[str] = ..., organisation: _Optional[str] = ..., issuer: _Optional[str] = ..., subject: _Optional[str] = ..., status: _Optional[_Union[EntryStatus, str]] = ..., roles: _Optional[_Iterable[str]] = ...) -> None: ...

class Accreditation(_message.Message):
    __slots__ = ("id", "requester", "organisation", "scheme", "level", "from_at_ms", "until_at_ms", "status", "source", "supervisor")
    ID_FIELD_NUMBER: _ClassVar[int]
    REQUESTER_FIELD_NUMBER: _ClassVar[int]
    ORGANISATION_FIELD_NUMBER: _ClassVar[int]
    SCHEME_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    FROM_AT_MS_FIELD_NUMBER: _ClassVar[int]
    UNTIL_AT_MS_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    SUPERVISOR_FIELD_NUMBER: _ClassVar[int]
    id: str
    requester: str
    organisation: str
    scheme: str
    level: AccreditationLevel
    from_at_ms: int
    until_at_ms: int
    status: EntryStatus
    source: str
    supervisor: str
    def __init__(self, id: _Optional[str] = ..., requester: _Optional[str] = ..., organisation: _Optional[str] = ..., scheme: _Optional[str] = ..., level: _Optional[_Union[AccreditationLevel, str]] = ..., from_at_ms: _Optional[int] = ..., until_at_ms: _Optional[int] = ..., status: _Optional[_Union[EntryStatus, str]] = ..., source: _Optional[str] = ..., supervisor: _Optional[str] = ...) -> None: ...

class DataService(_message.Message):
    __slots__ = ("id", "spiffe_id", "organisation", "setting", "status")
    ID_FIELD_NUMBER: _ClassVar[int]
    SPIFFE_ID_FIELD_NUMBER: _ClassVar[int]
    ORGANISATION_FIELD_NUMBER: _ClassVar[int]
    SETTING_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    id: str
    spiffe_id: str
    organisation: str
    setting: str
    status: EntryStatus
    def __init__(self, id: _Optional[str] = ..., spiffe_id: _Optional[str] = ..., organisation: _Optional[str] = ..., setting: _Optional[str] = ..., status: _Optional[_Union[EntryStatus, str]] = ...) -> None: ...

class Agreement(_message.Message):
    __slots__ = ("id", "organisation", "requesters", "data_services", "purposes", "fields", "years", "table_years", "setting", "actions", "gateway", "scheme", "project_accredited", "basis", "article9", "compatibility", "exemption", "from_at_ms", "until_at_ms", "destroy_by_ms", "status")
    ID_FIELD_NUMBER: _ClassVar[int]
    ORGANISATION_FIELD_NUMBER: _ClassVar[int]
    REQUESTERS_FIELD_NUMBER: _ClassVar[int]
    DATA_SERVICES_FIELD_NUMBER: _ClassVar[int]
    PURPOSES_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    YEARS_FIELD_NUMBER: _ClassVar[int]
    TABLE_YEARS_FIELD_NUMBER: _ClassVar[int]
    SETTING_FIELD_NUMBER: _ClassVar[int]
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    SCHEME_FIELD_NUMBER: _ClassVar[int]
    PROJECT_ACCREDITED_FIELD_NUMBER: _ClassVar[int]
    BASIS_FIELD_NUMBER: _ClassVar[int]
    ARTICLE9_FIELD_NUMBER: _ClassVar[int]
    COMPATIBILITY_FIELD_NUMBER: _ClassVar[int]
    EXEMPTION_FIELD_NUMBER: _ClassVar[int]
    FROM_AT_MS_FIELD_NUMBER: _ClassVar[int]
    UNTIL_AT_MS_FIELD_NUMBER: _ClassVar[int]
    DESTROY_BY_MS_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    id: str
    organisation: str
    requesters: _containers.RepeatedScalarFieldContainer[str]
    data_services: _containers.RepeatedScalarFieldContainer[str]
    purposes: _containers.RepeatedScalarFieldContainer[str]
    fields: _containers.RepeatedScalarFieldContainer[str]
    years: _containers.RepeatedScalarFieldContainer[int]
    table_years: _containers.RepeatedCompositeFieldContainer[TableYears]
    setting: str
    actions: _containers.RepeatedScalarFieldContainer[_decision_pb2.Action]
    gateway: str
    scheme: str
    project_accredited: bool
    basis: str
    article9: str
    compatibility: str
    exemption: str
    from_at_ms: int
    until_at_ms: int
    destroy_by_ms: int
    status: EntryStatus
    def __init__(self, id: _Optional[str] = ..., organisation: _Optional[str] = ..., requesters: _Optional[_Iterable[str]] = ..., data_services: _Optional[_Iterable[str]] = ..., purposes: _Optional[_Iterable[str]] = ..., fields: _Optional[_Iterable[str]] = ..., years: _Optional[_Iterable[int]] = ..., table_years: _Optional[_Iterable[_Union[TableYears, _Mapping]]] = ..., setting: _Optional[str] = ..., actions: _Optional[_Iterable[_Union[_decision_pb2.Action, str]]] = ..., gateway: _Optional[str] = ..., scheme: _Optional[str] = ..., project_accredited: _Optional[bool] = ..., basis: _Optional[str] = ..., article9: _Optional[str] = ..., compatibility: _Optional[str] = ..., exemption: _Optional[str] = ..., from_at_ms: _Optional[int] = ..., until_at_ms: _Optional[int] = ..., destroy_by_ms: _Optional[int] = ..., status: _Optional[_Union[EntryStatus, str]] = ...) -> None: ...

class TableYears(_message.Message):
    __slots__ = ("table", "years")
    TABLE_FIELD_NUMBER: _ClassVar[int]
    YEARS_FIELD_NUMBER: _ClassVar[int]
    table: str
    years: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, table: _Optional[str] = ..., years: _Optional[_Iterable[int]] = ...) -> None: ...

class ApplyRequest(_message.Message):
    __slots__ = ("change", "entries", "dry_run")
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    change: Change
    entries: _containers.RepeatedCompositeFieldContainer[Entry]
    dry_run: bool
    def __init__(self, change: _Optional[_Union[Change, _Mapping]] = ..., entries: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ..., dry_run: _Optional[bool] = ...) -> None: ...

class ApplyResponse(_message.Message):
    __slots__ = ("state", "differences", "problems", "needs_two_people", "epoch", "chain_hash", "receipt", "waiting_for")
    STATE_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCES_FIELD_NUMBER: _ClassVar[int]
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    NEEDS_TWO_PEOPLE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    CHAIN_HASH_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    WAITING_FOR_FIELD_NUMBER: _ClassVar[int]
    state: ChangeState
    differences: _containers.RepeatedCompositeFieldContainer[Difference]
    problems: _containers.RepeatedCompositeFieldContainer[Problem]
    needs_two_people: bool
    epoch: int
    chain_hash: bytes
    receipt: _decision_pb2.Receipt
    waiting_for: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, state: _Optional[_Union[ChangeState, str]] = ..., differences: _Optional[_Iterable[_Union[Difference, _Mapping]]] = ..., problems: _Optional[_Iterable[_Union[Problem, _Mapping]]] = ..., needs_two_people: _Optional[bool] = ..., epoch: _Optional[int] = ..., chain_hash: _Optional[bytes] = ..., receipt: _Optional[_Union[_decision_pb2.Receipt, _Mapping]] = ..., waiting_for: _Optional[_Iterable[str]] = ...) -> None: ...

class Difference(_message.Message):
    __slots__ = ("kind", "id", "difference", "parts")
    KIND_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    kind: EntryKind
    id: str
    difference: DifferenceKind
    parts: _containers.RepeatedCompositeFieldContainer[PartDifference]
    def __init__(self, kind: _Optional[_Union[EntryKind, str]] = ..., id: _Optional[str] = ..., difference: _Optional[_Union[DifferenceKind, str]] = ..., parts: _Optional[_Iterable[_Union[PartDifference, _Mapping]]] = ...) -> None: ...

class PartDifference(_message.Message):
    __slots__ = ("part", "before", "after", "step")
    PART_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    part: str
    before: str
    after: str
    step: str
    def __init__(self, part: _Optional[str] = ..., before: _Optional[str] = ..., after: _Optional[str] = ..., step: _Optional[str] = ...) -> None: ...

class Problem(_message.Message):
    __slots__ = ("kind", "id", "part", "message")
    KIND_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    kind: EntryKind
    id: str
    part: str
    message: str
    def __init__(self, kind: _Optional[_Union[EntryKind, str]] = ..., id: _Optional[str] = ..., part: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class GetRequest(_message.Message):
    __slots__ = ("kind", "id", "epoch")
    KIND_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    kind: EntryKind
    id: str
    epoch: int
    def __init__(self, kind: _Optional[_Union[EntryKind, str]] = ..., id: _Optional[str] = ..., epoch: _Optional[int] = ...) -> None: ...

class GetResponse(_message.Message):
    __slots__ = ("entry", "epoch", "changed_at_epoch")
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    CHANGED_AT_EPOCH_FIELD_NUMBER: _ClassVar[int]
    entry: Entry
    epoch: int
    changed_at_epoch: int
    def __init__(self, entry: _Optional[_Union[Entry, _Mapping]] = ..., epoch: _Optional[int] = ..., changed_at_epoch: _Optional[int] = ...) -> None: ...

class ListRequest(_message.Message):
    __slots__ = ("kind", "organisation", "status", "until_before_ms", "page_size", "page_token")
    KIND_FIELD_NUMBER: _ClassVar[int]
    ORGANISATION_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    UNTIL_BEFORE_MS_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    kind: EntryKind
    organisation: str
    status: EntryStatus
    until_before_ms: int
    page_size: int
    page_token: str
    def __init__(self, kind: _Optional[_Union[EntryKind, str]] = ..., organisation: _Optional[str] = ..., status: _Optional[_Union[EntryStatus, str]] = ..., until_before_ms: _Optional[int] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListResponse(_message.Message):
    __slots__ = ("entries", "next_page_token", "epoch")
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[Entry]
    next_page_token: str
    epoch: int
    def __init__(self, entries: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., epoch: _Optional[int] = ...) -> None: ...

class SuspendRequest(_message.Message):
    __slots__ = ("change", "kind", "id")
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    change: Change
    kind: EntryKind
    id: str
    def __init__(self, change: _Optional[_Union[Change, _Mapping]] = ..., kind: _Optional[_Union[EntryKind, str]] = ..., id: _Optional[str] = ...) -> None: ...

class SuspendResponse(_message.Message):
    __slots__ = ("state", "epoch", "chain_hash", "receipt", "waiting_for")
    STATE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    CHAIN_HASH_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    WAITING_FOR_FIELD_NUMBER: _ClassVar[int]
    state: ChangeState
    epoch: int
    chain_hash: bytes
    receipt: _decision_pb2.Receipt
    waiting_for: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, state: _Optional[_Union[ChangeState, str]] = ..., epoch: _Optional[int] = ..., chain_hash: _Optional[bytes] = ..., receipt: _Optional[_Union[_decision_pb2.Receipt, _Mapping]] = ..., waiting_for: _Optional[_Iterable[str]] = ...) -> None: ...
