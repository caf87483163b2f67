"""A process that hands a train off and is killed at a step of it, or that sends what is due once it is told to go.

python -m support.mortal handoff DATABASE TICKETS ROOM METHOD N before|after
python -m support.mortal settle DATABASE TICKETS ROOM SECONDS
"""

import os
import signal
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from calsync.calendars.sql import SqlCalendar
from calsync.notifications.channels import Channels
from calsync.notifications.destinations import Destinations
from calsync.notifications.dispatcher import Dispatcher
from calsync.notifications.phabricator import Conduit
from calsync.schedule.sync import CalendarSync
from support.conduit import TOKEN
from support.pair import MIDWEEK, NEAR, TEAM, handed
from support.samples import configured


class Written:
    """A channel that stands in a file, and outlives whoever speaks in it."""

    def __init__(self, file):
        self.file = file

    def send(self, text):
        with Path(self.file).open("a", encoding="utf-8") as room:
            room.write(text + "\n")


class Deadly:
    """A port of whose method the n-th call is the process's last: it is killed before it, or once it is done."""

    def __init__(self, port, method, n, when):
        self.port, self.method, self.left, self.when = port, method, n, when

    def __getattr__(self, name):
        call = getattr(self.port, name)
        if name != self.method:
            return call

        def last(*arguments, **options):
            self.left -= 1
            if not self.left and self.when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            answer = call(*arguments, **options)
            if not self.left:
                os.kill(os.getpid(), signal.SIGKILL)
            return answer

        return last


def main(what, database, tickets, room, *rest):
    ports: list[Any] = [SqlCalendar.sqlite(Path(database)), Conduit(tickets, TOKEN), Written(room)]
    if what == "handoff":
        method, n, when = rest
        ports = [Deadly(port, method, int(n), when) for port in ports]
    calendar, conduit, channel = ports
    now = MIDWEEK + timedelta(seconds=int(rest[0]) if what == "settle" else 0)
    sync = CalendarSync(calendar, configured(conductors=TEAM, calendar=NEAR), now)
    destinations = Destinations(conduit, Channels(channel, channel))
    if what == "handoff":
        handed(sync, destinations)
        return
    sync.refresh(now)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    Dispatcher(sync, destinations).send_due(now)


if __name__ == "__main__":
    main(*sys.argv[1:])
