"""Errors → problem+json (RFC 9457): the one place that maps calsync's error tree to HTTP."""

from __future__ import annotations

import logging
import re
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException

from calsync.core import errors
from calsync.core.conflict import Conflicted, ReservedByAnother
from calsync.schemas.reservations import AlternativeOut, ConflictOut

_log = logging.getLogger("calsync")


# Subclasses come before their base class, because the first match counts.
_MAPPING: tuple[tuple[type[errors.CalsyncError], int, str, str], ...] = (
    (errors.UnknownTimezone, 422, "unknown-timezone", "Unknown timezone"),
    (errors.Invalid, 422, "invalid", "Invalid request"),
    (errors.NotReserved, 404, "not-reserved", "Week not reserved"),
    (errors.NotAway, 404, "not-away", "Absence not found"),
    (ReservedByAnother, 409, "reserved-by-another", "Week already reserved"),
    (Conflicted, 409, "conflict", "Blocking conflicts"),
    (errors.Changed, 412, "changed", "Reservation changed"),
    (errors.Unreachable, 503, "calendar-away", "Calendar unavailable"),
    (errors.Refused, 503, "calendar-refused", "Calendar refused the request"),
    (errors.Unauthorized, 401, "unauthorized", "Missing or unknown token"),
    (errors.Forbidden, 403, "forbidden", "Origin not allowed"),
)

_WRONG_TYPE = ("model_attributes_type", "string_type")
"""The validator's error types for a value that is no object, or no string."""


# What the framework refuses by itself.
_HTTP = {
    404: ("not-found", "Not found"),
    405: ("method-not-allowed", "Method not allowed"),
    413: ("too-large", "Content too large"),
}


class Mistake(BaseModel):
    """One mistake in the input: where it is (`body/primary/timezone`), and what is wrong or would be right."""

    where: str
    detail: str


class Problem(BaseModel):
    """An error (RFC 9457). `type` is `urn:calsync:problem:NAME` and tells problems apart; `detail` is for people."""

    model_config = ConfigDict(title="Problem")

    type: str
    title: str
    status: int
    detail: str
    errors: list[Mistake] | None = None
    suggestions: list[str] | None = None
    conflicts: list[ConflictOut] | None = None
    alternatives: list[AlternativeOut] | None = None


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI description of these problem responses, for a route."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {"application/problem+json": {"schema": schema}},
            **({"headers": {"Retry-After": {"schema": {"type": "integer"}}}} if status == 503 else {}),
        }
        for status in statuses
    }


def problem(status: int, name: str, title: str, detail: str, **extra: Any) -> JSONResponse:
    """Return a problem as a response."""
    body = Problem(type=f"urn:calsync:problem:{name}", title=title, status=status, detail=detail, **extra)
    content = {name: value for name, value in body.model_dump(mode="json").items() if value is not None}
    return JSONResponse(content, status_code=status, media_type="application/problem+json")


def of(error: errors.CalsyncError | RequestValidationError) -> JSONResponse:
    """Return the response to an error of calsync, or to invalid input."""
    if isinstance(error, RequestValidationError):
        return problem(422, "invalid", "Invalid request", detail(error), errors=_mistakes(error))
    status, name, title = next((status, name, title) for kind, status, name, title in _MAPPING if isinstance(error, kind))
    extra: dict[str, Any] = {}
    if isinstance(error, errors.UnknownTimezone):
        extra["suggestions"] = list(error.suggestions)
    if isinstance(error, Conflicted):
        extra["conflicts"] = [ConflictOut.model_validate(conflict) for conflict in error.conflicts]
        extra["alternatives"] = [AlternativeOut.model_validate(alternative) for alternative in error.alternatives]
    response = problem(status, name, title, str(error), **extra)
    if isinstance(error, errors.CalendarError) and status == 503:
        response.headers["Retry-After"] = str(getattr(error, "retry_after", 60))
        _log.error("calendar error: %s", error)
    if isinstance(error, errors.Unauthorized):
        response.headers["WWW-Authenticate"] = 'Bearer realm="calsync"'
    return response


def detail(error: errors.CalsyncError | RequestValidationError) -> str:
    """Return what is wrong, for people; of invalid input, the first five mistakes."""
    if isinstance(error, RequestValidationError):
        return "; ".join(f"{mistake.where}: {mistake.detail}" for mistake in _mistakes(error)[:5]) + "."
    return str(error)


def install(app: FastAPI) -> None:
    """Turn every error of the app into a problem."""
    app.add_exception_handler(errors.CalsyncError, _calsync_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _validation_error)


def describe(app: FastAPI) -> None:
    """Add the schema of problems, to which `documented` refers, to the app's OpenAPI document."""
    document = app.openapi()
    schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}", mode="serialization")
    schemas = document["components"]["schemas"]
    for name, definition in schema.pop("$defs", {}).items():
        schemas.setdefault(name, definition)
    schemas["Problem"] = schema


async def _calsync_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, errors.CalsyncError)  # as installed
    return of(error)


async def _http_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # as installed
    name, title = _HTTP.get(error.status_code, ("bad-request", "Bad request"))
    response = problem(error.status_code, name, title, str(error.detail))
    response.headers.update(error.headers or {})
    return response


async def _validation_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # as installed
    return of(error)


def _mistakes(error: RequestValidationError) -> list[Mistake]:
    mistakes = [(_where(mistake["loc"]), mistake) for mistake in error.errors()]
    specific = {where for where, mistake in mistakes if mistake["type"] not in _WRONG_TYPE}

    def is_meant(where: str) -> bool:
        return where not in specific and not any(other.startswith(f"{where}/") for other, _ in mistakes)

    # The validator tries each form that a value may have, such as a name or an object. Keep only the mistakes in the form
    # that was meant.
    return [
        Mistake(where=where, detail=_sentence(mistake))
        for where, mistake in mistakes
        if mistake["type"] not in _WRONG_TYPE or is_meant(where)
    ]


def _where(steps: tuple[str | int, ...]) -> str:
    """Return the path to a value, without the names of models and types that the validator tried."""
    return "/".join(str(step) for step in steps if isinstance(step, int) or re.fullmatch(r"[a-z_]+", step))


def _sentence(mistake: dict[str, Any]) -> str:
    if mistake["type"] == "extra_forbidden":
        return "is unknown"
    if mistake["type"] == "missing":
        return "is missing"
    if mistake["type"] == "model_attributes_type":
        return "should be an object"
    if mistake["type"] == "string_pattern_mismatch":  # there is only one pattern
        return "has a line break or another control character; write it as one line of plain text"
    message = str(mistake["msg"])
    for prefix in ("Value error, ", "Input ", "String "):
        message = message.removeprefix(prefix)
    return message.encode("ascii", "replace").decode()[:300]
