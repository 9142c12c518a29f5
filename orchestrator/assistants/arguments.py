"""What a tool's arguments must look like: the operator's JSON Schema, and what a model wrote held against it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from jsonschema.validators import extend, validator_for
from referencing import Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012, EMPTY_REGISTRY, specification_with

from orchestrator.assistants.base import AssistantError

MOST_BYTES = 16_384
"""Of the arguments as JSON."""
MOST_STEPS = 10_000
"""Keywords of the schema that are applied in one check; a pair of items that must differ counts as one."""
_LONGEST_REASON = 240
_MOST_ERRORS = 16  # of which the one to tell is chosen
_Keyword = Callable[[Any, Any, Any, Any], Iterator[ValidationError] | None]


class _TooCostly(Exception):
    pass


class ArgumentsSchema:
    """``schema`` is JSON Schema, draft 2020-12 unless its ``$schema`` names an earlier one, of an object. ``$ref``
    leads to places within it alone: nothing is ever fetched. ``format`` is not checked. What is bounded is how many
    keywords are applied, not how long a ``pattern`` looks for a match.

    Raises ``ValueError`` with one sentence where it is no such schema.
    """

    def __init__(self, schema: dict[str, Any]) -> None:
        named = {"$schema": str(schema["$schema"])} if "$schema" in schema else {}
        kind = validator_for(named, default=None) if named else Draft202012Validator
        if kind is None:
            raise ValueError(
                "the schema of its arguments is of a dialect that is not known: leave $schema out"
            )
        try:
            kind.check_schema(schema)
            _check_references(kind, schema)
        except SchemaError as error:
            raise ValueError(f"the schema of its arguments is none: {_told(error)}") from None
        except RecursionError:
            raise ValueError("the schema of its arguments is nested too deeply") from None
        if schema.get("type", "object") != "object":
            raise ValueError('the schema of its arguments must be of "type": "object"')
        self._left = 0
        # A sub-schema that names its dialect is applied by the library's own class, which does not count.
        own = {key: value for key, value in schema.items() if key != "$schema"}
        counting = extend(kind, {name: self._counted(name, each) for name, each in kind.VALIDATORS.items()})
        self._validator = counting(own, registry=EMPTY_REGISTRY)

    def written(self, arguments: dict[str, Any]) -> bytes:
        """The arguments as JSON. Raises :class:`AssistantError`, one sentence for the model, where they are not
        what the schema says, are too long, or cost too much to check."""
        self._left = MOST_STEPS
        try:
            data = json.dumps(arguments, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
            if len(data) > MOST_BYTES:
                raise AssistantError(f"the arguments are longer than {MOST_BYTES} bytes: write shorter ones")
            wrong = best_match(islice(self._validator.iter_errors(arguments), _MOST_ERRORS))
        except (_TooCostly, RecursionError, OverflowError):  # the last by a whole number beyond every float
            raise AssistantError("the arguments take too long to check: write simpler ones") from None
        except ValueError:
            raise AssistantError("the arguments cannot be written as JSON: correct them") from None
        if wrong is not None:
            raise AssistantError(f"the arguments are wrong, correct them: {_told(wrong)}")
        return data

    def _counted(self, name: str, keyword: _Keyword) -> _Keyword:
        def apply(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError] | None:
            pairs = name == "uniqueItems" and isinstance(instance, list)
            self._left -= 1 + (len(instance) ** 2 // 2 if pairs else 0)
            if self._left < 0:
                raise _TooCostly
            return keyword(validator, value, instance, schema)

        return apply


def _check_references(kind: Any, schema: dict[str, Any]) -> None:
    """Raises ``SchemaError`` where what is referred to is none, and ``ValueError`` where it is not there, or
    where a dialect is named within."""
    root = Resource.from_contents(schema, default_specification=DRAFT202012)
    dialect = specification_with(kind.META_SCHEMA.get("$id") or kind.META_SCHEMA["id"])
    left, seen = [(root, EMPTY_REGISTRY.resolver_with_root(root))], {id(schema)}
    while left:
        resource, resolver = left.pop()
        left += [(each, resolver.in_subresource(each)) for each in resource.subresources()]
        if not isinstance(resource.contents, dict):
            continue
        if resource is not root and "$schema" in resource.contents:
            raise ValueError("the schema of its arguments names a $schema below its root")
        for name in {"$ref", "$dynamicRef"} & resource.contents.keys():
            ref = resource.contents[name]
            try:
                found = resolver.lookup(ref)
            except Unresolvable:
                raise ValueError(
                    f"the schema of its arguments has a {name} to {ref!r}, which is not in it; nothing is fetched"
                ) from None
            if id(found.contents) not in seen:  # it may lie where no schema is looked for
                seen.add(id(found.contents))
                kind.check_schema(found.contents)
                left.append((dialect.create_resource(found.contents), found.resolver))


def _told(error: ValidationError | SchemaError) -> str:
    where = "" if error.json_path == "$" else f"{error.json_path}: "
    return f"{where}{error.message}"[:_LONGEST_REASON]
