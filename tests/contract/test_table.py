"""The table of plain values and the protobuf code are of one contract."""

from __future__ import annotations

import dataclasses

import pytest

from visavis.avatar.v1 import avatar_pb2 as pb
from visavis.avatar.v1 import contract


@pytest.mark.parametrize("kind", contract.FIELDS, ids=lambda kind: kind.__name__)
def test_the_table_is_that_of_the_protobuf_code(kind: type) -> None:
    fields = contract.FIELDS[kind]
    message = pb.DESCRIPTOR.message_types_by_name[kind.__name__]
    assert [f.name for f in message.fields] == [f.name for f in fields]
    assert [f.name for f in dataclasses.fields(kind)] == [f.name for f in fields]
    for told, field in zip(message.fields, fields, strict=True):
        assert (told.is_repeated, told.has_presence and told.message_type is None) == (
            field.repeated,
            field.optional and told.message_type is None,
        )
        if told.enum_type is not None:
            assert {v.number for v in told.enum_type.values if v.number} == set(
                contract.ENUMS[field.of].values()
            )


def test_every_message_of_the_stream_has_its_value() -> None:
    for stream, kinds, by_hand in (
        ("ConverseRequest", contract.REQUESTS, set[str]()),
        ("ConverseResponse", contract.RESPONSES, {"frame"}),
    ):
        told = pb.DESCRIPTOR.message_types_by_name[stream].fields
        assert {f.name for f in told} == set(kinds) | by_hand
        assert {f.name: f.message_type.name for f in told if f.name in kinds} == {
            name: kind.__name__ for name, kind in kinds.items()
        }
