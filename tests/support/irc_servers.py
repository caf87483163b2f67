"""Real IRC for the tests: ngircd on loopback, NickServ for it, a server that knows SASL, and a client that listens."""

import base64
import contextlib
import shutil
import socket
import socketserver
import ssl
import subprocess
import threading

from irc import client as irc_client

from support.processes import PATIENCE, stop, until
from support.servers import free_port


def certificate(folder):
    """A certificate for 127.0.0.1 that is its own authority, and its key."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=irc.test",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


class Ngircd:
    """An ngircd process; `port` is plain and `tls_port` TLS. It can be stopped and started again on the same ports."""

    def __init__(self, folder):
        self.folder, self.port, self.tls_port = folder, free_port(), free_port()
        self.cert, key = certificate(folder)
        self.config = folder / "ngircd.conf"
        self.config.write_text(
            f"""
[Global]
Name = irc.test
Info = test
Listen = 127.0.0.1
Ports = {self.port}
ServerUID = root
ServerGID = root
[Limits]
MaxConnectionsIP = 0
MaxNickLength = 20
[Options]
DNS = no
Ident = no
PAM = no
ChrootDir =
[SSL]
CertFile = {self.cert}
KeyFile = {key}
Ports = {self.tls_port}
[Channel]
Name = #operations
Modes = tn
[Channel]
Name = #registered
Modes = tnR
[Channel]
Name = #keyed
Modes = tnk secret
[Channel]
Name = #moderated
Modes = tnm
[Server]
Name = services.test
Host = 127.0.0.1
MyPassword = services
PeerPassword = services
ServiceMask = *Serv
Passive = yes
"""
        )
        self.process = None

    def start(self):
        binary = shutil.which("ngircd", path="/usr/sbin:/usr/bin:/sbin:/bin")
        assert binary, "ngircd is missing; scripts/test --all installs it"
        with (self.folder / "ngircd.log").open("ab") as log:
            self.process = subprocess.Popen([binary, "-n", "-f", str(self.config)], stdout=log, stderr=log)
        until(self._listens, "ngircd listens", self.process, self.folder / "ngircd.log")
        return self

    def _listens(self):
        for port in (self.port, self.tls_port):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                continue
            return False
        return True

    def stop(self):
        if self.process is not None:
            stop(self.process)
            self.process = None


class Listener:
    """A client in a channel; `said` is what others said there, `notes` whom it was from."""

    def __init__(self, port, channel="#operations", nick="listener", key=""):
        self.said, self.nicks, self._stop = [], [], threading.Event()
        self._reactor = irc_client.Reactor()
        self._connection = self._reactor.server()
        joined = threading.Event()
        self._reactor.add_global_handler("welcome", lambda connection, _event: connection.join(channel, key))
        self._reactor.add_global_handler("endofnames", lambda _connection, _event: joined.set())
        self._reactor.add_global_handler("pubmsg", self._hear)
        self._reactor.add_global_handler("nicknameinuse", lambda connection, _event: connection.nick(nick))
        self._connection.connect("127.0.0.1", port, nick)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert joined.wait(PATIENCE), "the listener could not join"

    def _hear(self, _connection, event):
        self.said.append(event.arguments[0])
        self.nicks.append(str(event.source).partition("!")[0])

    def _run(self):
        while not self._stop.is_set():
            self._reactor.process_once(0.05)

    def hears(self, count):
        """The first `count` messages, once they are there."""
        until(lambda: len(self.said) >= count, f"{count} messages are heard")
        return self.said[:count]

    def stop(self):
        self._stop.set()
        self._thread.join()
        with contextlib.suppress(Exception):
            self._connection.disconnect("")


class NickServ:
    """Services of an ngircd: a NickServ that knows one account, as a server linked by RFC 2813."""

    def __init__(self, port, account, password):
        self.heard, self.greeted = [], []
        self._account, self._password = account, password
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._say("PASS services 0210-IRC+ Test|1:")
        self._say("SERVER services.test 1 :Services")
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._ready.wait(PATIENCE), "services could not be linked"

    def _say(self, line):
        self._socket.sendall(f"{line}\r\n".encode())

    def _run(self):
        with self._socket.makefile("r", encoding="utf-8", newline="\n") as lines, contextlib.suppress(OSError, ValueError):
            for line in lines:
                words = line.strip().split(" ")
                if words[0] == "PING":
                    self._say(f":services.test PONG services.test {words[-1]}")
                elif len(words) > 1 and words[1] == "SERVER":
                    self._say(":services.test NICK NickServ 1 NickServ services.test 1 +o :Nickname services")
                    self._say(":services.test PING services.test")
                elif len(words) > 2 and words[1] == "NICK":  # whoever comes is greeted, which is no verdict yet
                    self.greeted.append(words[2])
                    self._say(f":NickServ NOTICE {words[2]} :This nickname is registered. Please identify.")
                elif len(words) > 1 and words[1] == "PONG":
                    self._ready.set()
                elif len(words) > 3 and words[1] == "PRIVMSG" and words[2].lower().startswith("nickserv"):
                    self._identify(words[0].lstrip(":").partition("!")[0], words[3:])

    def _identify(self, nick, words):
        self.heard.append(" ".join(words).lstrip(":"))
        if [word.lstrip(":") for word in words] == ["IDENTIFY", self._account, self._password]:
            self._say(f":services.test MODE {nick} :+R")
            self._say(f":NickServ NOTICE {nick} :You are now identified for {self._account}.")
        else:
            self._say(f":NickServ NOTICE {nick} :Invalid password for {self._account}.")

    def stop(self):
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


class _SaslClient(socketserver.StreamRequestHandler):
    """One client of a server that lets nobody in without SASL PLAIN (IRCv3 sasl-3.1)."""

    server: "SaslServer"

    def say(self, line):
        self.wfile.write(f":sasl.test {line}\r\n".encode())

    def handle(self):
        nick, wanted, logged_in = "*", False, False
        for raw in self.rfile:
            command, _, rest = raw.decode().strip().partition(" ")
            self.server.log.append(f"{command} {rest}")
            match command:
                case "CAP" if rest.startswith("LS"):
                    wanted = True
                    self.say("CAP * LS :multi-prefix sasl")
                case "CAP" if rest.startswith("REQ"):
                    self.say("CAP * ACK :sasl")
                case "CAP":
                    if not logged_in:
                        self.say("ERROR :SASL is needed")
                        return
                    self.say(f"001 {nick} :Welcome")
                case "NICK":
                    nick = rest.lstrip(":")
                case "USER" if not wanted:
                    self.say(f"465 {nick} :You are banned: SASL is needed")
                    return
                case "AUTHENTICATE" if rest == "PLAIN":
                    self.wfile.write(b"AUTHENTICATE +\r\n")
                case "AUTHENTICATE":
                    logged_in = base64.b64decode(rest).decode() == f"\0{self.server.account}\0{self.server.password}"
                    self.say(
                        f"903 {nick} :SASL authentication successful"
                        if logged_in
                        else f"904 {nick} :SASL authentication failed"
                    )
                case "JOIN":
                    self.say(f"366 {nick} {rest.split()[0]} :End of /NAMES list.")
                case "PRIVMSG":
                    self.server.said.append(rest.partition(" :")[2])
                case "PING":
                    self.say(f"PONG sasl.test {rest}")
                case "QUIT":
                    return


class SaslServer(socketserver.ThreadingTCPServer):
    """A server over TLS that knows SASL, which ngircd does not."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, folder, account, password):
        super().__init__(("127.0.0.1", 0), _SaslClient)
        self.account, self.password, self.said, self.log = account, password, [], []
        self.cert, key = certificate(folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert, key)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.port = self.server_address[1]
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,))
        self._thread.start()

    def handle_error(self, *_):
        pass  # a client that does not trust the certificate

    def stop(self):
        self.shutdown()
        self.server_close()
        self._thread.join()
