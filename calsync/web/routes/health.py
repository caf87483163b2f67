"""For those who run it: /healthz, /readyz and /metrics."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel

from calsync.web.errors import documented
from calsync.web.state import State

router = APIRouter(responses=documented(421))


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """The process can answer readers; `calendar` says whether it could write, `age` how old the agenda is in seconds."""

    status: Literal["ready"] = "ready"
    calendar: Literal["here", "away"]
    age: int
    resources: int
    defects: int


@router.get("/healthz")
async def healthz() -> Health:
    """Whether the process lives."""
    return Health()


@router.get("/readyz", responses=documented(503))
async def readyz(state: State) -> Readiness:
    """Whether the process can serve readers: 503 until the calendar was read once, then 200, also without it."""
    agenda = state.agenda
    return Readiness(
        calendar="away" if state.failure else "here",
        age=max(0, round((state.clock() - agenda.synced).total_seconds())),
        resources=len(agenda.objects),
        defects=len(agenda.defects),
    )


@router.get(
    "/metrics", response_class=Response, responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}
)
def metrics(state: State) -> Response:
    """The metrics of this process, for Prometheus."""
    return Response(state.metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")
