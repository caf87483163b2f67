"""Errors → problem+json (RFC 9457): the one place where calsync's error tree meets HTTP."""

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


# The most special class first: the first that an error is an instance of, counts.
_MAPPING: tuple[tuple[type[errors.CalsyncError], int, str, str], ...] = (
    (errors.UnknownTimezone, 422, "unknown-timezone", "This timezone does not exist"),
    (errors.Invalid, 422, "invalid", "This makes no sense as it stands"),
    (errors.NotReserved, 404, "not-reserved", "The week is not reserved"),
    (errors.NotAway, 404, "not-away", "There is no such absence"),
    (ReservedByAnother, 409, "reserved-by-another", "Another reservation holds the week"),
    (Conflicted, 409, "conflict", "Conflicts stand in the way"),
    (errors.Changed, 412, "changed", "The reservation was changed"),
    (errors.Unreachable, 503, "calendar-away", "The calendar does not answer"),
    (errors.Refused, 503, "calendar-refused", "The calendar refuses"),
    (errors.Unauthorized, 401, "unauthorized", "Writing needs a token"),
    (errors.Forbidden, 403, "forbidden", "This origin may not write"),
)

_FORMS = ("model_attributes_type", "string_type")
"""What the framework calls it where a value is not an object, or not a text."""


# What the framework refuses by itself.
_HTTP = {
    404: ("not-found", "Not found"),
    405: ("method-not-allowed", "Method not allowed"),
    413: ("too-large", "Content too large"),
}


class Mistake(BaseModel):
    """One mistake in the input: where (`body/primary/timezone`) and what would be right."""

    where: str
    detail: str


class Problem(BaseModel):
    """An error (RFC 9457). `type` is `urn:calsync:problem:NAME`, which tells problems apart; `detail` is for a person."""

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
    """The OpenAPI description of these problem responses, for a route."""
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
    """A problem as a response."""
    body = Problem(type=f"urn:calsync:problem:{name}", title=title, status=status, detail=detail, **extra)
    content = {name: value for name, value in body.model_dump(mode="json").items() if value is not None}
    return JSONResponse(content, status_code=status, media_type="application/problem+json")


def of(error: errors.CalsyncError | RequestValidationError) -> JSONResponse:
    """The response that an error of calsync's is, or input that no route takes."""
    if isinstance(error, RequestValidationError):
        return problem(422, "invalid", "This makes no sense as it stands", detail(error), errors=_mistakes(error))
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
        _log.error("the calendar failed: %s", error)
    if isinstance(error, errors.Unauthorized):
        response.headers["WWW-Authenticate"] = 'Bearer realm="calsync"'
    return response


def detail(error: errors.CalsyncError | RequestValidationError) -> str:
    """What is wrong, for a person: the first five mistakes of an input."""
    if isinstance(error, RequestValidationError):
        return "; ".join(f"{mistake.where}: {mistake.detail}" for mistake in _mistakes(error)[:5]) + "."
    return str(error)


def install(app: FastAPI) -> None:
    """Let every error of the app leave as a problem."""
    app.add_exception_handler(errors.CalsyncError, _calsync_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _validation_error)


def describe(app: FastAPI) -> None:
    """Put the schema of a problem, to which `documented` refers, into the app's OpenAPI document."""
    document = app.openapi()
    schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}", mode="serialization")
    schemas = document["components"]["schemas"]
    for name, definition in schema.pop("$defs", {}).items():
        schemas.setdefault(name, definition)
    schemas["Problem"] = schema


async def _calsync_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, errors.CalsyncError)  # what it is installed for
    return of(error)


async def _http_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # what it is installed for
    name, title = _HTTP.get(error.status_code, ("bad-request", "Bad request"))
    response = problem(error.status_code, name, title, str(error.detail))
    response.headers.update(error.headers or {})
    return response


async def _validation_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # what it is installed for
    return of(error)


def _mistakes(error: RequestValidationError) -> list[Mistake]:
    found = [(_where(one["loc"]), one) for one in error.errors()]
    told = {where for where, one in found if one["type"] not in _FORMS}

    def is_meant(where: str) -> bool:
        return where not in told and not any(other.startswith(f"{where}/") for other, _ in found)

    # Of two forms that are taken, such as a name or an object, only what is wrong in the one that was meant is news.
    return [
        Mistake(where=where, detail=_sentence(one)) for where, one in found if one["type"] not in _FORMS or is_meant(where)
    ]


def _where(steps: tuple[str | int, ...]) -> str:
    """The path to a value; the names of models and types, among which the validator chose, are no part of it."""
    return "/".join(str(step) for step in steps if isinstance(step, int) or re.fullmatch(r"[a-z_]+", step))


def _sentence(mistake: dict[str, Any]) -> str:
    if mistake["type"] == "extra_forbidden":
        return "is not known here"
    if mistake["type"] == "missing":
        return "is missing"
    if mistake["type"] == "model_attributes_type":
        return "should be an object"
    if mistake["type"] == "string_pattern_mismatch":  # the one pattern there is
        return "has a line break or another control character; write it in one line of plain text"
    said = str(mistake["msg"])
    for beginning in ("Value error, ", "Input ", "String "):
        said = said.removeprefix(beginning)
    return said.encode("ascii", "replace").decode()[:300]
