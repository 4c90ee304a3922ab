from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Stage(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STAGE_UNSPECIFIED: _ClassVar[Stage]
    QUEUED: _ClassVar[Stage]
    READING: _ClassVar[Stage]
    PAINTING: _ClassVar[Stage]
    WRITING: _ClassVar[Stage]
    FITTING: _ClassVar[Stage]
    TUNING: _ClassVar[Stage]
STAGE_UNSPECIFIED: Stage
QUEUED: Stage
READING: Stage
PAINTING: Stage
WRITING: Stage
FITTING: Stage
TUNING: Stage

class StylizeRequest(_message.Message):
    __slots__ = ("start", "chunk")
    START_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    start: StylizeStart
    chunk: bytes
    def __init__(self, start: _Optional[_Union[StylizeStart, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class StylizeStart(_message.Message):
    __slots__ = ("head", "mix", "options", "format", "size_bytes")
    class MixEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    HEAD_FIELD_NUMBER: _ClassVar[int]
    MIX_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    head: str
    mix: _containers.ScalarMap[str, float]
    options: Options
    format: str
    size_bytes: int
    def __init__(self, head: _Optional[str] = ..., mix: _Optional[_Mapping[str, float]] = ..., options: _Optional[_Union[Options, _Mapping]] = ..., format: _Optional[str] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class Options(_message.Message):
    __slots__ = ("strength", "detail", "keep_color", "size_px", "seed", "brush", "roughness", "hand", "plain")
    STRENGTH_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    KEEP_COLOR_FIELD_NUMBER: _ClassVar[int]
    SIZE_PX_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    BRUSH_FIELD_NUMBER: _ClassVar[int]
    ROUGHNESS_FIELD_NUMBER: _ClassVar[int]
    HAND_FIELD_NUMBER: _ClassVar[int]
    PLAIN_FIELD_NUMBER: _ClassVar[int]
    strength: float
    detail: float
    keep_color: bool
    size_px: int
    seed: int
    brush: float
    roughness: float
    hand: float
    plain: bool
    def __init__(self, strength: _Optional[float] = ..., detail: _Optional[float] = ..., keep_color: _Optional[bool] = ..., size_px: _Optional[int] = ..., seed: _Optional[int] = ..., brush: _Optional[float] = ..., roughness: _Optional[float] = ..., hand: _Optional[float] = ..., plain: _Optional[bool] = ...) -> None: ...

class StylizeReply(_message.Message):
    __slots__ = ("progress", "result", "chunk")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    progress: Progress
    result: Painting
    chunk: bytes
    def __init__(self, progress: _Optional[_Union[Progress, _Mapping]] = ..., result: _Optional[_Union[Painting, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("stage", "fraction", "ahead", "loss")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    FRACTION_FIELD_NUMBER: _ClassVar[int]
    AHEAD_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    stage: Stage
    fraction: float
    ahead: int
    loss: float
    def __init__(self, stage: _Optional[_Union[Stage, str]] = ..., fraction: _Optional[float] = ..., ahead: _Optional[int] = ..., loss: _Optional[float] = ...) -> None: ...

class Painting(_message.Message):
    __slots__ = ("width", "height", "size_bytes", "format", "seconds", "settings")
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    width: int
    height: int
    size_bytes: int
    format: str
    seconds: float
    settings: str
    def __init__(self, width: _Optional[int] = ..., height: _Optional[int] = ..., size_bytes: _Optional[int] = ..., format: _Optional[str] = ..., seconds: _Optional[float] = ..., settings: _Optional[str] = ...) -> None: ...

class PersonalizeRequest(_message.Message):
    __slots__ = ("start", "picture", "chunk")
    START_FIELD_NUMBER: _ClassVar[int]
    PICTURE_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    start: PersonalizeStart
    picture: PersonalizePicture
    chunk: bytes
    def __init__(self, start: _Optional[_Union[PersonalizeStart, _Mapping]] = ..., picture: _Optional[_Union[PersonalizePicture, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class PersonalizeStart(_message.Message):
    __slots__ = ("name", "budget_seconds", "seed", "overwrite", "strokes")
    NAME_FIELD_NUMBER: _ClassVar[int]
    BUDGET_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    OVERWRITE_FIELD_NUMBER: _ClassVar[int]
    STROKES_FIELD_NUMBER: _ClassVar[int]
    name: str
    budget_seconds: float
    seed: int
    overwrite: bool
    strokes: str
    def __init__(self, name: _Optional[str] = ..., budget_seconds: _Optional[float] = ..., seed: _Optional[int] = ..., overwrite: _Optional[bool] = ..., strokes: _Optional[str] = ...) -> None: ...

class PersonalizePicture(_message.Message):
    __slots__ = ("practice",)
    PRACTICE_FIELD_NUMBER: _ClassVar[int]
    practice: bool
    def __init__(self, practice: _Optional[bool] = ...) -> None: ...

class PersonalizeReply(_message.Message):
    __slots__ = ("progress", "made")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    MADE_FIELD_NUMBER: _ClassVar[int]
    progress: Progress
    made: Made
    def __init__(self, progress: _Optional[_Union[Progress, _Mapping]] = ..., made: _Optional[_Union[Made, _Mapping]] = ...) -> None: ...

class Made(_message.Message):
    __slots__ = ("head", "loss_before", "loss_after", "seconds", "skipped")
    HEAD_FIELD_NUMBER: _ClassVar[int]
    LOSS_BEFORE_FIELD_NUMBER: _ClassVar[int]
    LOSS_AFTER_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    head: Head
    loss_before: float
    loss_after: float
    seconds: float
    skipped: int
    def __init__(self, head: _Optional[_Union[Head, _Mapping]] = ..., loss_before: _Optional[float] = ..., loss_after: _Optional[float] = ..., seconds: _Optional[float] = ..., skipped: _Optional[int] = ...) -> None: ...

class Head(_message.Message):
    __slots__ = ("name", "shipped", "size_bytes", "images", "created", "backbone", "matches", "damage")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SHIPPED_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    BACKBONE_FIELD_NUMBER: _ClassVar[int]
    MATCHES_FIELD_NUMBER: _ClassVar[int]
    DAMAGE_FIELD_NUMBER: _ClassVar[int]
    name: str
    shipped: bool
    size_bytes: int
    images: int
    created: str
    backbone: str
    matches: bool
    damage: str
    def __init__(self, name: _Optional[str] = ..., shipped: _Optional[bool] = ..., size_bytes: _Optional[int] = ..., images: _Optional[int] = ..., created: _Optional[str] = ..., backbone: _Optional[str] = ..., matches: _Optional[bool] = ..., damage: _Optional[str] = ...) -> None: ...

class ListHeadsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListHeadsReply(_message.Message):
    __slots__ = ("heads",)
    HEADS_FIELD_NUMBER: _ClassVar[int]
    heads: _containers.RepeatedCompositeFieldContainer[Head]
    def __init__(self, heads: _Optional[_Iterable[_Union[Head, _Mapping]]] = ...) -> None: ...

class ShowHeadRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class RenameHeadRequest(_message.Message):
    __slots__ = ("name", "new_name")
    NAME_FIELD_NUMBER: _ClassVar[int]
    NEW_NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    new_name: str
    def __init__(self, name: _Optional[str] = ..., new_name: _Optional[str] = ...) -> None: ...

class DeleteHeadRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class DeleteHeadReply(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class Manner(_message.Message):
    __slots__ = ("strength", "detail", "keep_color", "brush", "roughness", "hand", "share")
    STRENGTH_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    KEEP_COLOR_FIELD_NUMBER: _ClassVar[int]
    BRUSH_FIELD_NUMBER: _ClassVar[int]
    ROUGHNESS_FIELD_NUMBER: _ClassVar[int]
    HAND_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    strength: float
    detail: float
    keep_color: bool
    brush: float
    roughness: float
    hand: float
    share: float
    def __init__(self, strength: _Optional[float] = ..., detail: _Optional[float] = ..., keep_color: _Optional[bool] = ..., brush: _Optional[float] = ..., roughness: _Optional[float] = ..., hand: _Optional[float] = ..., share: _Optional[float] = ...) -> None: ...

class Taste(_message.Message):
    __slots__ = ("head", "partner", "choices", "candidates", "best", "confidence", "applied")
    HEAD_FIELD_NUMBER: _ClassVar[int]
    PARTNER_FIELD_NUMBER: _ClassVar[int]
    CHOICES_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    BEST_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    APPLIED_FIELD_NUMBER: _ClassVar[int]
    head: str
    partner: str
    choices: int
    candidates: _containers.RepeatedCompositeFieldContainer[Manner]
    best: Manner
    confidence: float
    applied: Manner
    def __init__(self, head: _Optional[str] = ..., partner: _Optional[str] = ..., choices: _Optional[int] = ..., candidates: _Optional[_Iterable[_Union[Manner, _Mapping]]] = ..., best: _Optional[_Union[Manner, _Mapping]] = ..., confidence: _Optional[float] = ..., applied: _Optional[_Union[Manner, _Mapping]] = ...) -> None: ...

class CandidatesRequest(_message.Message):
    __slots__ = ("head", "count", "seed", "partner")
    HEAD_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    PARTNER_FIELD_NUMBER: _ClassVar[int]
    head: str
    count: int
    seed: int
    partner: str
    def __init__(self, head: _Optional[str] = ..., count: _Optional[int] = ..., seed: _Optional[int] = ..., partner: _Optional[str] = ...) -> None: ...

class ChooseRequest(_message.Message):
    __slots__ = ("head", "shown", "order", "partner")
    HEAD_FIELD_NUMBER: _ClassVar[int]
    SHOWN_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    PARTNER_FIELD_NUMBER: _ClassVar[int]
    head: str
    shown: _containers.RepeatedCompositeFieldContainer[Manner]
    order: _containers.RepeatedScalarFieldContainer[int]
    partner: str
    def __init__(self, head: _Optional[str] = ..., shown: _Optional[_Iterable[_Union[Manner, _Mapping]]] = ..., order: _Optional[_Iterable[int]] = ..., partner: _Optional[str] = ...) -> None: ...

class SuggestRequest(_message.Message):
    __slots__ = ("head",)
    HEAD_FIELD_NUMBER: _ClassVar[int]
    head: str
    def __init__(self, head: _Optional[str] = ...) -> None: ...

class ApplyRequest(_message.Message):
    __slots__ = ("head",)
    HEAD_FIELD_NUMBER: _ClassVar[int]
    head: str
    def __init__(self, head: _Optional[str] = ...) -> None: ...

class ResetRequest(_message.Message):
    __slots__ = ("head",)
    HEAD_FIELD_NUMBER: _ClassVar[int]
    head: str
    def __init__(self, head: _Optional[str] = ...) -> None: ...

class GetLedgerRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Ledger(_message.Message):
    __slots__ = ("exists", "complete", "epsilon", "epsilon_left", "max_epsilon", "participations", "bytes_sent", "json")
    EXISTS_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    EPSILON_FIELD_NUMBER: _ClassVar[int]
    EPSILON_LEFT_FIELD_NUMBER: _ClassVar[int]
    MAX_EPSILON_FIELD_NUMBER: _ClassVar[int]
    PARTICIPATIONS_FIELD_NUMBER: _ClassVar[int]
    BYTES_SENT_FIELD_NUMBER: _ClassVar[int]
    JSON_FIELD_NUMBER: _ClassVar[int]
    exists: bool
    complete: bool
    epsilon: float
    epsilon_left: float
    max_epsilon: float
    participations: int
    bytes_sent: int
    json: str
    def __init__(self, exists: _Optional[bool] = ..., complete: _Optional[bool] = ..., epsilon: _Optional[float] = ..., epsilon_left: _Optional[float] = ..., max_epsilon: _Optional[float] = ..., participations: _Optional[int] = ..., bytes_sent: _Optional[int] = ..., json: _Optional[str] = ...) -> None: ...

class GetVersionRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Version(_message.Message):
    __slots__ = ("easel", "backbone", "device", "max_upload_bytes", "max_pixels", "max_calls", "max_calls_per_client", "calls")
    EASEL_FIELD_NUMBER: _ClassVar[int]
    BACKBONE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    MAX_UPLOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_PIXELS_FIELD_NUMBER: _ClassVar[int]
    MAX_CALLS_FIELD_NUMBER: _ClassVar[int]
    MAX_CALLS_PER_CLIENT_FIELD_NUMBER: _ClassVar[int]
    CALLS_FIELD_NUMBER: _ClassVar[int]
    easel: str
    backbone: str
    device: str
    max_upload_bytes: int
    max_pixels: int
    max_calls: int
    max_calls_per_client: int
    calls: int
    def __init__(self, easel: _Optional[str] = ..., backbone: _Optional[str] = ..., device: _Optional[str] = ..., max_upload_bytes: _Optional[int] = ..., max_pixels: _Optional[int] = ..., max_calls: _Optional[int] = ..., max_calls_per_client: _Optional[int] = ..., calls: _Optional[int] = ...) -> None: ...
