from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetCurrentRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Signed(_message.Message):
    __slots__ = ("body", "key", "signature")
    BODY_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    body: bytes
    key: str
    signature: bytes
    def __init__(self, body: _Optional[bytes] = ..., key: _Optional[str] = ..., signature: _Optional[bytes] = ...) -> None: ...

class Current(_message.Message):
    __slots__ = ("order", "manifest", "rotations")
    ORDER_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    ROTATIONS_FIELD_NUMBER: _ClassVar[int]
    order: Signed
    manifest: Signed
    rotations: _containers.RepeatedCompositeFieldContainer[Signed]
    def __init__(self, order: _Optional[_Union[Signed, _Mapping]] = ..., manifest: _Optional[_Union[Signed, _Mapping]] = ..., rotations: _Optional[_Iterable[_Union[Signed, _Mapping]]] = ...) -> None: ...

class GetWeightsRequest(_message.Message):
    __slots__ = ("sha256", "offset")
    SHA256_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    sha256: str
    offset: int
    def __init__(self, sha256: _Optional[str] = ..., offset: _Optional[int] = ...) -> None: ...

class Piece(_message.Message):
    __slots__ = ("offset", "data")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    offset: int
    data: bytes
    def __init__(self, offset: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...
