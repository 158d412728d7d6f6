"""Receivers of notices, for tests: a webhook that checks signatures as docs/OPERATING.md says, and a mail server.

Both can be told how to behave: what they answer next, or that they hang.
"""
import base64
import hashlib
import hmac
import http.server
import socket
import socketserver
import threading
import time


class Verifier:
    """The check that a receiver makes (Standard Webhooks 1.0.0): signature, age, and never the same id twice."""
    TOLERANCE_S = 300

    def __init__(self, key):
        self.key = base64.b64decode(key[6:]) if key.startswith("whsec_") else key.encode()
        self.seen = {}

    def check(self, headers, body, now=None):
        now = time.time() if now is None else now
        mid, at = headers.get("webhook-id"), headers.get("webhook-timestamp")
        if not mid or not at or not at.isdigit():
            return "headers are missing"
        if abs(now - int(at)) > self.TOLERANCE_S:
            return "it is too old, or from the future"
        want = base64.b64encode(hmac.new(self.key, f"{mid}.{at}.".encode() + body, hashlib.sha256).digest()).decode()
        given = [s.split(",", 1)[1] for s in headers.get("webhook-signature", "").split(" ") if s.startswith("v1,")]
        if not any(hmac.compare_digest(want, g) for g in given):
            return "the signature is wrong"
        self.seen = {k: t for k, t in self.seen.items() if now - t <= self.TOLERANCE_S}
        if mid in self.seen:
            return "it was here already"
        self.seen[mid] = now
        return None


class WebhookSink:
    """answers: what is said to the next requests, (status, headers) each, "hang", or "drop"; then 200."""

    def __init__(self, answers=(), port=0):
        self.got, self.answers, self.cond = [], list(answers), threading.Condition()
        self.released = threading.Event()
        sink = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                with sink.cond:
                    how = sink.answers.pop(0) if sink.answers else (200, {})
                    sink.got.append({"path": self.path, "headers": dict(self.headers.items()), "body": body, "at": time.time(), "answer": how})
                    sink.cond.notify_all()
                if how == "hang":
                    sink.released.wait(60)
                    self.close_connection = True
                    return
                if how == "drop":
                    self.close_connection = True
                    return
                self.send_response(how[0])
                for k, v in how[1].items():
                    self.send_header(k, v)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *a):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

        self.server = Server(("127.0.0.1", port), Handler)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def wait(self, n, timeout=30):
        with self.cond:
            if not self.cond.wait_for(lambda: len(self.got) >= n, timeout):
                raise AssertionError(f"{len(self.got)} of {n} notices came: {self.got}")
            return self.got[:n]

    def close(self):
        self.released.set()
        self.server.shutdown()
        self.server.server_close()


class MailSink:
    """As much of SMTP as a client needs; fail: how many messages are refused with 451 first."""

    def __init__(self, fail=0, auth=None):
        self.got, self.cond, self.fail, self.auth = [], threading.Condition(), fail, auth
        sink = self

        class Handler(socketserver.StreamRequestHandler):
            def say(self, line):
                self.wfile.write(line.encode() + b"\r\n")

            def handle(self):
                mail, login = {"to": []}, None
                self.say("220 sink")
                while True:
                    line = self.rfile.readline().decode("latin-1").rstrip("\r\n")
                    word = line.split(" ")[0].upper()
                    if not line or word == "QUIT":
                        self.say("221 bye")
                        return
                    if word == "EHLO":
                        self.say("250-sink")
                        if sink.auth:
                            self.say("250-AUTH PLAIN")
                        self.say("250 8BITMIME")
                    elif word == "AUTH":
                        token = line.split(" ")[2] if len(line.split(" ")) > 2 else ""
                        if not token:
                            self.say("334 ")
                            token = self.rfile.readline().decode().strip()
                        login = base64.b64decode(token).decode().split("\0")[1:]
                        self.say("235 ok" if login == list(sink.auth) else "535 no")
                    elif word == "MAIL":
                        mail = {"from": line, "to": [], "login": login}
                        self.say("250 ok")
                    elif word == "RCPT":
                        mail["to"].append(line)
                        self.say("250 ok")
                    elif word == "DATA":
                        with sink.cond:
                            refuse = sink.fail > 0
                            sink.fail -= refuse
                        if refuse:
                            self.say("451 later")
                            continue
                        self.say("354 go")
                        data = b""
                        while not data.endswith(b"\r\n.\r\n"):
                            data += self.rfile.readline()
                        mail["data"] = data[:-5]
                        with sink.cond:
                            sink.got.append(mail)
                            sink.cond.notify_all()
                        self.say("250 taken")
                    else:
                        self.say("250 ok")

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.url = f"smtp://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def wait(self, n, timeout=30):
        with self.cond:
            if not self.cond.wait_for(lambda: len(self.got) >= n, timeout):
                raise AssertionError(f"{len(self.got)} of {n} mails came")
            return self.got[:n]

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]
