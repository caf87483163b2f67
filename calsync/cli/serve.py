"""The command serve, which alone loads the web app."""

from __future__ import annotations

import ipaddress
import os
import signal
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calsync.calendars.open import open_calendar
from calsync.cli.options import DEFAULT_CONFIG, ConfigFile
from calsync.cli.output import err
from calsync.core.config import load
from calsync.core.errors import Invalid

if TYPE_CHECKING:
    from fastapi import FastAPI

commands = typer.Typer()

_WORKERS_CONFIG = "CALSYNC_WORKERS_CONFIG"
"""The environment variable that tells each worker process which configuration to read."""


@commands.command(epilog="Example: calsync serve --port 8080")
def serve(
    context: typer.Context,
    host: Annotated[str, typer.Option(help="The address to listen on; any but loopback needs tokens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on.")] = 8080,
    workers: Annotated[int, typer.Option(min=1, max=64, help="How many processes share the port.")] = 1,
    log_format: Annotated[str, typer.Option(help="text, or json with one object per line.")] = "text",
    file: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Serve page, API and feed until stopped."""
    import uvicorn  # like the web app, it takes half a second of processor time, and no other command needs it

    if log_format not in ("text", "json"):
        raise Invalid('Set --log-format to "text" or "json".')
    config = load(file, os.environ)
    check_listening(host, tokens=config.tokens, hosts=config.server.hosts)
    open_calendar(config).close()  # fail before anything starts, if no server is needed to notice
    if log_format == "text":
        err.print(
            f"calsync serves [bold]http://{host}:{port}/[/] and the feed http://{host}:{port}/deployments.ics",
            soft_wrap=True,
        )
    # uvicorn stops gracefully and then raises the signal again; without a handler, the process would end as if killed.
    signal.signal(signal.SIGTERM, lambda _signal, _frame: None)
    os.environ[_WORKERS_CONFIG] = str(file)
    uvicorn.run(
        f"{__name__}:{worker.__name__}" if workers > 1 else worker(context.obj),
        factory=workers > 1,
        workers=workers,
        host=host,
        port=port,
        log_config=_log_config(log_format),
        server_header=False,
        timeout_graceful_shutdown=10,
    )


def worker(clock: Callable[[], datetime] | None = None) -> FastAPI:
    """Return the app of one worker process, which reads the configuration and opens the calendar for itself."""
    from calsync.web.app import create_app, utc_now  # as uvicorn above

    config = load(Path(os.environ[_WORKERS_CONFIG]), os.environ)
    return create_app(config, open_calendar(config), clock or utc_now)


def check_listening(host: str, *, tokens: Iterable[str], hosts: Iterable[str]) -> None:
    """Raise `Invalid` if anybody could write, or if no Host header would be accepted."""
    names = [name for name in hosts if not _is_loopback(name)]
    if _is_loopback(host) and not names:
        return
    if not list(tokens):
        reached = host if not _is_loopback(host) else names[0]
        raise Invalid(
            f"Without tokens, anybody who reaches {reached} can write; set CALSYNC_TOKENS (name:token pairs), "
            "or listen on 127.0.0.1 and leave server.hosts empty."
        )
    if not names:
        raise Invalid(
            f"calsync listens on {host} and needs to know its host names; set server.hosts in windows.toml or "
            'CALSYNC_SERVER_HOSTS, such as ["calsync.example.org"].'
        )


def _is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a server that listens on `host`."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _log_config(form: str) -> dict[str, object]:
    """Return the logging configuration: everything to stderr, as text or as JSON."""
    from pythonjsonlogger.core import RESERVED_ATTRS  # as uvicorn above

    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "text": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"},
            "json": {
                "()": "pythonjsonlogger.json.JsonFormatter",
                "reserved_attrs": [*RESERVED_ATTRS, "color_message"],  # uvicorn's message again, with escape codes
                "fmt": "%(asctime)s %(levelname)s %(name)s %(message)s",
                "rename_fields": {"asctime": "time", "levelname": "level", "name": "logger"},
            },
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": form, "stream": "ext://sys.stderr"}},
        "root": {"handlers": ["stderr"], "level": "INFO"},
    }
