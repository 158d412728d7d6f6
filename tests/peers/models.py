#!/usr/bin/env python3
"""A stand-in for the model APIs that PHOTON and the AI tools speak, on loopback:

    Anthropic   POST */v1/messages (and count_tokens)
    OpenAI      POST */chat/completions (also Z.AI's), */responses
    Gemini      POST */models/M:generateContent, :streamGenerateContent, :countTokens
    Ollama      POST */api/chat, */api/generate, GET */api/tags
    Jules       */v1alpha/sessions ...
    all         GET */models

    models.py [--port N] [--log FILE]

Prints `ready PORT` and runs until its standard input ends, so it never outlives a test. The
prompt says what to answer (script.py). A key that contains "bad" gets 401. Every request is a
line of FILE: {"method", "path", "headers", "body", "at"}; GET /_requests gives them as a list."""
import argparse
import json
import os
import socket
import struct
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import jules  # noqa: E402
import script  # noqa: E402
import wire  # noqa: E402

BODY_MAX = 256 << 20
HANG_S = 3600


class State:
    def __init__(self, log):
        self.lock = threading.Lock()
        self.requests = []
        self.log = open(log, "a", encoding="utf-8") if log else None
        self.refused = {}  # (step's text, has tools) -> how often its status was sent
        self.jules = jules.Jules()

    def record(self, rec):
        with self.lock:
            self.requests.append(rec)
            if self.log:
                self.log.write(json.dumps(rec) + "\n")
                self.log.flush()

    def refuse(self, step, side):
        """Whether this request gets the step's status. Requests that a client makes on the side
        (titles, safety) hold the prompt too: they are counted for themselves."""
        if not step.status:
            return False
        if not step.status_times:
            return True
        with self.lock:
            n = self.refused.get((step.raw, side), 0)
            self.refused[(step.raw, side)] = n + 1
        return n < step.status_times


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # what was said is on its way before a reset takes the rest along
    server_version = "stand-in"
    state = None

    def log_message(self, *a):
        pass

    def do_GET(self):
        self.serve(None)

    def do_DELETE(self):
        self.serve(None)

    def do_POST(self):
        n = int(self.headers.get("Content-Length") or 0)
        if n > BODY_MAX:
            return self.json({"error": "too large"}, 413)
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            raw = self.read_chunked()
        else:
            raw = self.rfile.read(n)
        try:
            body = json.loads(raw) if raw else {}
        except ValueError:
            return self.json({"error": {"message": "the body is no JSON", "type": "invalid_request_error"}}, 400)
        self.serve(body)

    def read_chunked(self):
        out = b""
        while True:
            n = int(self.rfile.readline().split(b";")[0], 16)
            out += self.rfile.read(n)
            self.rfile.readline()
            if n == 0:
                return out

    def json(self, doc, status=200, headers=()):
        data = json.dumps(doc).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for k, v in headers:
            self.send_header(k, v)
        self.end_headers()
        self.wfile.write(data)

    def key(self):
        h = self.headers
        query = urlsplit(self.path).query
        return " ".join(filter(None, (h.get("Authorization"), h.get("x-api-key"), h.get("x-goog-api-key"), query)))

    def serve(self, body):
        path = urlsplit(self.path).path
        if path == "/_requests":
            with self.state.lock:
                return self.json(list(self.state.requests))
        self.state.record({"at": time.time(), "method": self.command, "path": self.path, "body": body,
                           "headers": {k.lower(): v for k, v in self.headers.items()}})
        if "/v1alpha/" in path:
            if "bad" in self.key() or not self.key():
                return self.json(wire.Gemini.error(401, "API key not valid"), 401)
            status, doc = self.state.jules.answer(self.command, path.split("/v1alpha", 1)[1], body)
            return self.json(doc, status)
        if self.command == "GET" or body is None:
            doc = wire.catalogue(path)
            return self.json(doc if doc is not None else {"error": {"message": "no such path"}}, 200 if doc is not None else 404)
        api = wire.api_for(path)
        if api is None:
            return self.json({"error": {"type": "not_found_error", "message": f"no such path: {path}"}}, 404)
        if path.endswith(("/count_tokens", ":countTokens")):
            return self.json({"input_tokens": 42, "totalTokens": 42})
        if "bad" in self.key():
            return self.json(api.error(401, "invalid api key"), 401)
        if api.model(body, path) == "no-such-model":
            return self.json(api.error(404, "model: no-such-model"), 404)
        self.answer(api, body, path)

    def answer(self, api, body, path):
        ask = api.read(body, path)
        step = ask.step()
        if self.state.refuse(step, not ask.tools):
            more = [("Retry-After", step.retry_after)] if step.retry_after else []
            return self.json(api.error(step.status, f"stand-in says {step.status}"), step.status, more)
        blocks = ask.blocks(step)
        if not ask.stream:
            if step.hang is not None:
                return self.sleep_until_gone()
            time.sleep(step.slow / 1000)
            return self.whole(step, json.dumps(api.whole(ask, step, blocks)).encode())
        self.send_response(200)
        self.send_header("Content-Type", api.content_type)
        self.send_header("Cache-Control", "no-cache")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            self.stream(step, api.frames(ask, step, blocks), api)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def whole(self, step, data):
        """An answer that is no stream: as it is, half of it, or half of it and then a reset."""
        part = data[:len(data) // 2] if step.half or step.cut is not None else data
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(part if step.half else data)))
        self.end_headers()
        self.wfile.write(part)
        if step.cut is not None:
            self.reset()

    def reset(self):
        """Not an end: what the other side sees when a machine dies."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def stream(self, step, frames, api):
        sent = 0
        for kind, data in frames:
            if kind == "end" and step.noend:
                continue
            if kind == "piece":
                if step.cut is not None and sent >= step.cut:
                    return self.reset()
                if step.hang is not None and sent >= step.hang:
                    return self.sleep_until_gone()
                if step.half and sent >= 1:
                    self.chunk(data[:len(data) // 2])
                    return self.wfile.write(b"0\r\n\r\n")
                if step.junk and sent == 1:
                    self.chunk(api.junk)
                if step.error is not None and sent >= 1:
                    self.chunk(api.error_event(step.error))
                    return self.wfile.write(b"0\r\n\r\n")
                time.sleep(step.slow / 1000)
                sent += 1
            self.chunk(data)
        self.wfile.write(b"0\r\n\r\n")

    def sleep_until_gone(self):
        """Silent until the other side hangs up."""
        self.connection.settimeout(HANG_S)
        try:
            self.connection.recv(1)
        except OSError:
            pass
        self.close_connection = True


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], (BrokenPipeError, ConnectionResetError)):
            super().handle_error(request, client_address)


def end_with_parent():
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(0)


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--port", type=int, default=0)
    a.add_argument("--log")
    o = a.parse_args()
    Handler.state = State(o.log)
    server = Server(("127.0.0.1", o.port), Handler)
    threading.Thread(target=end_with_parent, daemon=True).start()
    print(f"ready {server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
