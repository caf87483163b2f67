"""A small Conduit server over real HTTP, as Phabricator documents it: form encoding, tokens, error answers.

It reads forms as PHP does (`transactions[0][type]`), wants an `api.token` of 32 characters that begins with `api-`, and
answers 200 with `error_code` and `error_info` where it refuses.
"""

import contextlib
import http.server
import itertools
import json
import re
import threading
import time
from typing import Any
from urllib.parse import parse_qsl

TOKEN = "api-" + "abcdefghijklmnopqrstuvwxyz12"
_KEY = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")


class Refusal(Exception):
    """An answer with an error code."""

    def __init__(self, code, info):
        super().__init__(code)
        self.code, self.info = code, info


def php(fields):
    """The nested parameters that PHP reads from a form's fields; a list is a table with the keys 0, 1, …"""
    found = {}
    for key, value in fields:
        match = _KEY.fullmatch(key)
        assert match, f"PHP would not read {key}"
        steps = [match[1], *re.findall(r"\[([^\[\]]*)\]", match[2])]
        table = found
        for step in steps[:-1]:
            table = table.setdefault(step, {})
        table[steps[-1]] = value
    return found


def listed(value):
    """A PHP array as a list; anything else is refused as Conduit does."""
    if not isinstance(value, dict) or list(value) != [str(n) for n in range(len(value))]:
        raise Refusal("ERR-CONDUIT-CORE", "Expected a list.")
    return list(value.values())


class _Handler(http.server.BaseHTTPRequestHandler):
    server: "ConduitServer"

    def do_POST(self):
        server = self.server
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        method = self.path.removeprefix("/api/")
        server.calls.append(method)
        if server.down:
            server.down -= 1
            self.send_response(503)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        try:
            if self.headers["Content-Type"].partition(";")[0] != "application/x-www-form-urlencoded":
                raise Refusal("ERR-CONDUIT-CORE", "Send a form.")
            result = server.answer(method, php(parse_qsl(body, keep_blank_values=True)))
            answer = {"result": result, "error_code": None, "error_info": None}
        except Refusal as refusal:
            answer = {"result": None, "error_code": refusal.code, "error_info": refusal.info}
        if method in server.silent:
            server.silent.remove(method)
            self.close_connection = True
            return  # it has done what it was asked, and says nothing
        text = json.dumps(answer).encode()
        time.sleep(server.delay)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        with contextlib.suppress(OSError):  # who hangs up has waited enough
            for n in range(len(text)) if method in server.dripping else ():
                self.wfile.write(text[n : n + 1])
                time.sleep(0.02)
            self.wfile.write(b"" if method in server.dripping else text)

    def log_message(self, *_):
        pass


class ConduitServer(http.server.ThreadingHTTPServer):
    """Tasks T400001 and T400002, and the users `Ana` and `Ben`.

    `down` is how many calls are answered with 503, `silent` names methods that do their work and then hang up, `dripping`
    those whose answer comes byte by byte, and `delay` is how many seconds each answer takes.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.calls, self.down, self.silent, self.dripping, self.delay = [], 0, [], [], 0.0
        self.users = {"Ana": "PHID-USER-ana", "Ben": "PHID-USER-ben"}
        self.tasks: dict[int, Any] = {
            n: {"phid": f"PHID-TASK-{n}", "owner": None, "comments": []} for n in (400001, 400002)
        }
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,))
        self._thread.start()

    def stop(self):
        self.shutdown()
        self.server_close()
        self._thread.join()

    def comments(self, n=400001):
        return [comment["text"] for comment in self.tasks[n]["comments"]]

    def owner(self, n=400001):
        return next((name for name, phid in self.users.items() if phid == self.tasks[n]["owner"]), None)

    def answer(self, method, parameters):
        token = parameters.pop("api.token", "")
        if len(token) != 32:
            raise Refusal(
                "ERR-INVALID-AUTH", f'API token "{token}" has the wrong length. API tokens should be 32 characters long.'
            )
        if not token.startswith("api-"):
            raise Refusal("ERR-INVALID-AUTH", f'API token "{token}" has the wrong format.')
        if token != TOKEN:
            raise Refusal("ERR-INVALID-AUTH", f'API token "{token}" is not valid.')
        assert parameters.pop("output", "json") == "json"
        handlers = {
            "maniphest.search": self._tasks,
            "maniphest.edit": self._edit,
            "user.search": self._users,
            "transaction.search": self._history,
        }
        if method not in handlers:
            raise Refusal("ERR-CONDUIT-CORE", f"API method '{method}' does not exist.")
        with self._lock:
            return handlers[method](parameters)

    def _page(self, data, after=None):
        cursor = {"limit": 100, "after": after, "before": None, "order": None}
        return {"data": data, "maps": {}, "query": {"queryKey": None}, "cursor": cursor}

    def _tasks(self, parameters):
        constraints = parameters.pop("constraints")
        ids = [int(n) for n in listed(constraints.pop("ids"))]
        if parameters or constraints:
            raise Refusal("ERR-CONDUIT-CORE", "Unknown constraint.")
        return self._page(
            [
                {"id": n, "type": "TASK", "phid": self.tasks[n]["phid"], "fields": {"ownerPHID": self.tasks[n]["owner"]}}
                for n in ids
                if n in self.tasks
            ]
        )

    def _users(self, parameters):
        names = listed(parameters["constraints"]["usernames"])
        # Usernames are found whatever their letters' case.
        found = [(name, phid) for name, phid in self.users.items() if name.lower() in [one.lower() for one in names]]
        return self._page([{"id": 1, "type": "USER", "phid": phid, "fields": {"username": name}} for name, phid in found])

    def _task(self, name):
        for n, task in self.tasks.items():
            if name in (task["phid"], f"T{n}", str(n)):
                return task
        raise Refusal("ERR-CONDUIT-CORE", f'Monogram "{name}" does not identify a valid object.')

    def _edit(self, parameters):
        task = self._task(parameters.pop("objectIdentifier"))
        transactions = listed(parameters.pop("transactions"))
        if parameters:
            raise Refusal("ERR-CONDUIT-CORE", "Unknown parameter.")
        for transaction in transactions:
            if set(transaction) != {"type", "value"} or transaction["type"] not in ("owner", "comment"):
                raise Refusal("ERR-CONDUIT-CORE", "Transaction has an invalid type.")
            if transaction["type"] == "owner" and transaction["value"] not in self.users.values():
                raise Refusal("ERR-CONDUIT-CORE", "Value is not a user PHID.")
        done = []
        for transaction in transactions:
            if transaction["type"] == "owner":
                task["owner"] = transaction["value"]
            else:
                task["comments"].append({"id": next(self._ids), "text": transaction["value"], "at": int(time.time())})
            done.append({"phid": f"PHID-XACT-{next(self._ids)}"})
        return {"object": {"id": 1, "phid": task["phid"]}, "transactions": done}

    def _history(self, parameters):
        task = self._task(parameters.pop("objectIdentifier"))
        after = int(parameters.pop("after", 0) or 0)
        comments = task["comments"][::-1]
        shown = comments[after : after + 2]  # short pages, so that there are several
        data = [
            {
                "id": one["id"], "phid": f"PHID-XACT-{one['id']}", "type": "comment", "authorPHID": "PHID-USER-bot",
                "objectPHID": task["phid"], "dateCreated": one["at"], "dateModified": one["at"], "fields": {},
                "comments": [{"id": one["id"], "phid": "PHID-XCMT-1", "version": 1, "authorPHID": "PHID-USER-bot",
                              "dateCreated": one["at"], "dateModified": one["at"], "removed": False,
                              "content": {"raw": one["text"]}}],
            }
            for one in shown
        ]  # fmt: skip
        return self._page(data, str(after + 2) if after + 2 < len(comments) else None)
