"""A server over real TCP that always says a little more and never enough, so that no wait between two bytes is long."""

import socket
import threading


class Dripping:
    """Answers any request with `head` and then `drip`, a byte every 20 ms for ever; `ended` counts who hung up."""

    def __init__(self, head, drip=b"x"):
        self.head, self.drip, self.ended, self.asked = head, drip, 0, 0
        self.stopped = threading.Event()
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.threads = [threading.Thread(target=self._accept)]
        self.threads[0].start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stopped.set()
        socket.create_connection(("127.0.0.1", self.port)).close()  # wakes whoever accepts
        for thread in self.threads:
            thread.join()
        self.socket.close()

    def _accept(self):
        while True:
            connection, _ = self.socket.accept()
            if self.stopped.is_set():
                connection.close()
                return
            self.threads.append(threading.Thread(target=self._answer, args=(connection,)))
            self.threads[-1].start()

    def _answer(self, connection):
        with connection:
            try:
                if not connection.recv(65_536):
                    return
                self.asked += 1
                connection.sendall(self.head)
                connection.sendall(self.drip)
                while not self.stopped.wait(0.02):
                    connection.sendall(self.drip[-1:])
            except OSError:
                self.ended += 1
