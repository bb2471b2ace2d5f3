"""Compares answers of an application with its OpenAPI document: what is answered must stand there, in that form."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema_rs
from flask import Flask, Response, request

_REST_OF_A_PATH = re.compile(r"<(?:[^:<>]+:)?([^<>]+)>")


class DocumentedAnswers:
    """document: of the OpenAPI form. Its schemas are compiled when an answer needs them first.

    differences: of the answers so far, each in a sentence.
    """

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._validators: dict[str, Any] = {}
        self.differences: list[str] = []

    def install(self, app: Flask) -> None:
        """Compare each answer of this application."""
        app.after_request(self._note_differences)

    def _note_differences(self, answer: Response) -> Response:
        try:
            self._check(answer)
        except AssertionError as error:  # raised here, it would be an answer 500, which is documented
            self.differences.append(str(error))
        return answer

    def _check(self, answer: Response) -> None:
        rule = "" if request.url_rule is None else _REST_OF_A_PATH.sub(r"{\1}", request.url_rule.rule)
        operation = self._document["paths"].get(rule, {}).get(request.method.lower())
        if operation is None:  # an unknown address or method, or a page for people
            return
        label = f"{request.method} {rule}: {answer.status}"
        documented = operation["responses"].get(str(answer.status_code))
        assert documented is not None or answer.status_code >= 400, f"{label} is not documented"
        content = self._resolved(documented or operation["responses"]["default"]).get("content", {})
        if answer.status_code in (204, 304):
            return
        assert answer.mimetype in content, f"{label} is {answer.mimetype}, documented are {list(content)}"
        if answer.mimetype == "application/json" and not answer.is_streamed and not answer.content_encoding:
            self._compare(label, content[answer.mimetype]["schema"], answer.get_data())

    def _resolved(self, part: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in part:
            reference = part["$ref"].removeprefix("#/").split("/")
            part = self._document
            for name in reference:
                part = part[name]
        return part

    def _compare(self, label: str, schema: dict[str, Any], body: bytes) -> None:
        key = json.dumps(schema)
        if key not in self._validators:
            whole = {**schema, "components": self._document["components"]}
            self._validators[key] = jsonschema_rs.Draft202012Validator(whole)
        value = json.loads(body, parse_int=lambda text: int(text[:19]))  # Python refuses to read thousands of digits
        errors = [
            f"{list(error.instance_path)}: {error.message[:200]}" for error in self._validators[key].iter_errors(value)
        ]
        assert not errors, f"{label} differs from the document: {errors[:3]}"
