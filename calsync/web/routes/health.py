"""The routes for operators: /healthz, /readyz and /metrics."""

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
    """The process can serve readers. Writes need a `calendar` that is `here`; `age` is the agenda's age in seconds."""

    status: Literal["ready"] = "ready"
    calendar: Literal["here", "away"]
    age: int
    resources: int
    defects: int


@router.get("/healthz")
async def healthz() -> Health:
    """Tell that the process is alive."""
    return Health()


@router.get("/readyz", responses=documented(503))
async def readyz(state: State) -> Readiness:
    """Tell whether the process can serve readers: 503 until it has read the calendar once, then 200 for good."""
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
    """Return the metrics of this process, for Prometheus."""
    return Response(state.metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")
