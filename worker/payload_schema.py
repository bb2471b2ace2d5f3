"""Makes the JSON Schema of a marshmallow schema, so that the interface refuses a payload before it becomes a job."""

from __future__ import annotations

from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from marshmallow import Schema

_ROOT = "Payload"
_REFERENCE = {"$ref": f"#/components/schemas/{_ROOT}"}


def to_json_schema(schema: Schema) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of what `schema.load` accepts. Marshmallow has the last word, in the executor.

    Nested schemas are referred to as in an OpenAPI document, so that a schema may have itself as a member.
    """
    document = APISpec(title="", version="", openapi_version="3.1.0", plugins=[MarshmallowPlugin()])
    document.components.schema(_ROOT, schema=schema)
    root = {"type": "array", "items": _REFERENCE} if schema.many else _REFERENCE
    return {**root, "components": document.to_dict()["components"]}
