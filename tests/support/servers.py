"""The calendars that calsync is tried with, as processes of their own on loopback.

Each is a context manager that gives the server once it answers, and kills it by its process id at the end. What it needs
must be there: Radicale and Xandikos come with the `dev` group, PostgreSQL from Debian (`scripts/test --all`). A CalDAV
server that is started again with the same folder and port has its calendars still.
"""

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from support.processes import PATIENCE, environment, stop, until

USERNAME, PASSWORD = "train", "s3cret-word"
MKCALENDAR = """<?xml version="1.0" encoding="utf-8"?>
<c:mkcalendar xmlns:d="DAV:" xmlns:c="urn:ietf:params:xml:ns:caldav"><d:set><d:prop>
  <d:displayname>{name}</d:displayname>
</d:prop></d:set></c:mkcalendar>"""


@dataclass(frozen=True, slots=True)
class CalDavServer:
    """A CalDAV server at `url` (which ends in a slash); `home` is where its calendars are."""

    url: str
    principal_url: str
    home: str
    username: str | None
    password: str | None
    process: subprocess.Popen

    @property
    def port(self):
        return httpx2.URL(self.url).port

    def client(self):
        """An HTTP client with the credentials, and with this server's URL as its base."""
        auth = (self.username, self.password) if self.username else None
        return httpx2.Client(
            base_url=self.url, auth=auth, timeout=60, trust_env=False, verify=False
        )  # loads no certificates

    def new_calendar(self, name="Deployments"):
        """The URL, with a slash at its end, of a new and empty calendar of this display name."""
        url = f"{self.home}{uuid.uuid4().hex[:12]}/"
        with self.client() as client:
            answer = client.request(
                "MKCALENDAR", url, content=MKCALENDAR.format(name=name), headers={"Content-Type": "application/xml"}
            )
        assert answer.status_code == 201, answer.text
        return url


@contextmanager
def radicale(folder, port=None):
    """Radicale with its storage in `folder`, for the user `USERNAME` with `PASSWORD`."""
    port = port or free_port()
    users = folder / "users"
    users.write_text(f"{USERNAME}:{PASSWORD}\n")
    options = {
        "--config": "",
        "--hosts": f"127.0.0.1:{port}",
        "--storage-filesystem-folder": folder / "collections",
        "--auth-type": "htpasswd",
        "--auth-htpasswd-filename": users,
        "--auth-htpasswd-encryption": "plain",
        "--auth-delay": "0",
        "--server-max-connections": "400",
        "--logging-level": "warning",
    }
    command = [sys.executable, "-m", "radicale", *(f"{option}={value}" for option, value in options.items())]
    url = f"http://127.0.0.1:{port}/"
    with process(command, folder / "radicale.log") as running:
        until(lambda: answers(url), "radicale answers", running, folder / "radicale.log")
        home = f"{url}{USERNAME}/"
        yield CalDavServer(url, home, home, USERNAME, PASSWORD, running)


@contextmanager
def xandikos(folder, port=None):
    """Xandikos with its storage in `folder`; over plain HTTP it has no credentials."""
    port = port or free_port()
    command = [sys.executable, "-m", "xandikos", "serve", "--defaults", "--no-detect-systemd", "--listen-address=127.0.0.1"]
    command += [f"--port={port}", f"--directory={folder / 'collections'}", f"--state-dir={folder / 'state'}"]
    command += ["--current-user-principal=/train/"]
    url = f"http://127.0.0.1:{port}/"
    with process(command, folder / "xandikos.log") as running:
        until(lambda: answers(url), "xandikos answers", running, folder / "xandikos.log")
        yield CalDavServer(url, f"{url}train/", f"{url}train/calendars/", None, None, running)


@contextmanager
def unruly(folder, port=0):
    """The worst of all CalDAV servers (see unruly.py); its calendars are gone when it is."""
    command = [sys.executable, "-m", "support.unruly", f"--port={port}"]
    command += [f"--user={USERNAME}", f"--password={PASSWORD}"]
    log = folder / "unruly.log"
    with process(command, log) as running:
        port = until(lambda: re.match(r"(\d+)\n", log.read_text()), "the unruly server's port", running, log)[1]
        url = f"http://127.0.0.1:{port}/"
        yield CalDavServer(url, f"{url}principals/train/", f"{url}calendars/", USERNAME, PASSWORD, running)


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A PostgreSQL server; `url` names its first database, with credentials of a user who may do everything."""

    url: str
    port: int
    socket_folder: Path
    process: subprocess.Popen
    programs: Path

    def new_database(self):
        """The URL of a new and empty database."""
        name = f"calsync_{uuid.uuid4().hex[:12]}"
        self.run(f"CREATE DATABASE {name}")
        return self.url.rpartition("/")[0] + "/" + name

    def run(self, statement, url=None):
        """What `psql` says to a statement: the rows, one a line."""
        command = [
            self.programs / "psql",
            "-X",
            "-q",
            "-t",
            "-A",
            "-v",
            "ON_ERROR_STOP=1",
            "-c",
            statement,
            url or self.url,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout


@contextmanager
def postgres():
    """PostgreSQL in a temporary folder of its own, which the unprivileged user that it runs as can reach."""
    programs = postgres_programs()
    user = "postgres" if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root
    as_user = ["setpriv", "--reuid", user, "--regid", user, "--init-groups", "--"] if user else []
    with tempfile.TemporaryDirectory(prefix="calsync-pg-", ignore_cleanup_errors=True) as name:
        folder, port = Path(name), free_port()
        secret, data, log = folder / "password", folder / "data", folder / "postgres.log"
        secret.write_text(PASSWORD)
        if user:
            for path in (folder, secret):
                os.chown(path, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
        initdb = [*as_user, programs / "initdb", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8", "--auth=scram-sha-256"]
        initdb += [f"--username={USERNAME}", f"--pwfile={secret}", f"--pgdata={data}"]
        made = subprocess.run(initdb, cwd=folder, capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stderr
        command = [*as_user, programs / "postgres", "-D", data, "-p", str(port), "-k", folder, "-h", "127.0.0.1"]
        with process(command, log, folder, signal.SIGQUIT) as running:  # its children go with it
            ready = [programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
            until(lambda: subprocess.run(ready, check=False).returncode == 0, "PostgreSQL is ready", running, log)
            url = f"postgresql://{USERNAME}:{PASSWORD}@127.0.0.1:{port}/postgres"
            yield PostgresServer(url, port, folder, running, programs)


def postgres_programs():
    """The folder of the newest PostgreSQL's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: float(path.parts[-3]))
    if found:
        return found[-1].parent
    elsewhere = shutil.which("postgres")
    assert elsewhere, "PostgreSQL is not installed; the tests need it: apt-get install postgresql"
    return Path(elsewhere).parent


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@contextmanager
def process(command, log, cwd=None, how=signal.SIGKILL):
    """The process of a command, with what it says in the file `log`; the signal `how` ends it."""
    with log.open("wb") as said:
        running = subprocess.Popen(
            list(map(str, command)), cwd=cwd, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=environment()
        )
    try:
        yield running
    finally:
        stop(running, how)


def answers(url):
    try:
        return httpx2.request("OPTIONS", url, timeout=5, trust_env=False, verify=False)
    except httpx2.TransportError:
        return None
