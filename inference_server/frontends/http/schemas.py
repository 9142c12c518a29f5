"""What the routes of the HTTP face say and hear in JSON, as OpenAPI shows it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, create_model

from visavis.avatar.v1 import contract
from visavis.avatar.v1.contract import ENUMS, FIELDS

U16 = Annotated[int, Field(ge=0, lt=1 << 16)]


class Problem(BaseModel):
    """Problem details (RFC 9457). ``kind`` is the contract's name of the error, the same on every face."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str = Field(description="one sentence: what is wrong and what to do")
    kind: str = Field(description="invalid_argument, not_found, resource_exhausted, unavailable, ...")


class Started(BaseModel):
    """The answer to RoomKit's ``/start``."""

    fps: int


class Start(BaseModel):
    """What RoomKit's ``WebSocketAvatarProvider`` posts to ``/start``; ``fps`` is ours and optional."""

    reference_image: str = Field(min_length=1, description="base64 of a JPEG, PNG or WebP file")
    width: U16 = 512
    height: U16 = 512
    sample_rate: int = Field(16000, ge=4000, le=192_000)
    fps: int | None = Field(None, ge=1, le=60)


def schema(kind: type, name: str, **more: Any) -> type[BaseModel]:
    """One of the contract's values as OpenAPI shows its JSON; ``more`` are fields that HTTP alone has."""
    fields: dict[str, Any] = {f.name: (_shape(f), Field(description=f.doc or None)) for f in FIELDS[kind]}
    return create_model(name, __doc__=kind.__doc__, **fields, **more)


def _shape(field: contract.Field) -> Any:
    """The type of a field's JSON."""
    one: Any = _SHAPES.get(field.kind, int)
    if field.kind == "enum":
        one = Literal[tuple(ENUMS[field.of])]
    elif field.kind == "message":
        one = LIMITS if field.of is contract.Limits else schema(field.of, field.of.__name__)
    return list[one] if field.repeated else one


_SHAPES: dict[str, Any] = {
    "bool": bool,
    "string": str,
    "bytes": Annotated[str, Field(pattern="^[0-9a-f]*$")],
    "FrameRate": Annotated[str, Field(examples=["25", "30000/1001"])],
    "LoopJump": tuple[int, int],
    "LoopSegment": tuple[int, str],
    "Rect": tuple[int, int, int, int],
}

LIMITS = schema(
    contract.Limits,
    "Limits",
    connections=(int, Field(description="HTTP connections and sockets open at once")),
)
AVATAR = schema(contract.Avatar, "Avatar")
CAPABILITIES = schema(contract.Capabilities, "Capabilities")
CAPACITY = schema(contract.Capacity, "Capacity")


def first_error(errors: list[Any]) -> str:
    """The first of pydantic's errors as ``field: what is wrong``."""
    first = errors[0]
    where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query"))
    return f"{where or 'the message'}: {first['msg']}"
