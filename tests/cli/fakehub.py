"""A hub's API as far as the command line needs it: HTTPS with a certificate of its own
authority, answers by a table of functions, and every request kept for the test to look at."""
import json
import os
import shutil
import ssl
import subprocess
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

ROOT = Path(__file__).resolve().parents[2]
PHOTON = Path(os.environ.get("BUILD", ROOT / "build")).resolve() / "photon"
TOKEN = "pat_test"


def openssl(folder, *args):
    subprocess.run(["openssl", *args], cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def make_pki(folder):
    """ca.crt, and hub.crt with its chain for 127.0.0.1."""
    (folder / "ext").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth\n")
    openssl(folder, "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "ca.key")
    openssl(folder, "req", "-x509", "-new", "-key", "ca.key", "-subj", "/CN=test authority", "-days", "2", "-out", "ca.crt")
    openssl(folder, "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "hub.key")
    openssl(folder, "req", "-new", "-key", "hub.key", "-subj", "/CN=hub", "-out", "hub.csr")
    openssl(folder, "x509", "-req", "-in", "hub.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
            "-extfile", "ext", "-out", "leaf.crt")
    (folder / "hub.crt").write_text((folder / "leaf.crt").read_text() + (folder / "ca.crt").read_text())


class Request:
    def __init__(self, method, path, query, headers, body):
        self.method, self.path, self.query, self.headers, self.body = method, path, query, headers, body

    @property
    def json(self):
        return json.loads(self.body)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def serve(self):
        u = urlsplit(self.path)
        n = int(self.headers.get("Content-Length") or 0)
        q = Request(self.command, unquote(u.path), dict(parse_qsl(u.query)), self.headers, self.rfile.read(n))
        with self.server.lock:
            self.server.seen.append(q)
        fn = self.server.answers.get((q.method, q.path))
        if fn is None:
            return self.problem(404, "not_found", f"nothing at {q.path}")
        if self.headers.get("Authorization") != f"Bearer {TOKEN}" and q.path not in ("/version", "/healthz"):
            return self.problem(401, "unauthenticated", "the API token is unknown, expired or revoked")
        answer = fn(self, q)
        if answer is not None:
            self.reply(200 if q.method != "POST" else 201, answer)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = serve

    def reply(self, status, doc, kind="application/json"):
        data = json.dumps(doc).encode() if not isinstance(doc, bytes) else doc
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def problem(self, status, code, detail, **more):
        self.reply(status, dict(type="about:blank", title="x", status=status, detail=detail, code=code, **more),
                   "application/problem+json")

    def stream(self, chunks, kind="text/event-stream", broken=False):
        """Chunked; broken: the connection is cut instead of the end."""
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for c in chunks:
            c = c if isinstance(c, bytes) else c.encode()
            if c:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(c), c))
                self.wfile.flush()
        if broken:
            self.close_connection = True
            self.connection.close()
        else:
            self.wfile.write(b"0\r\n\r\n")


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass  # a client that refuses our certificate is what some tests are about


class FakeHub:
    """Answers: {(method, path): fn(handler, request) -> JSON document, or None when it answered itself}."""

    def __init__(self):
        self.dir = Path(tempfile.mkdtemp(prefix="photon-cli-"))
        make_pki(self.dir)
        ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ctx.load_cert_chain(self.dir / "hub.crt", self.dir / "hub.key")
        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.socket = ctx.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.server.answers, self.server.seen, self.server.lock = {}, [], threading.Lock()
        self.url = f"https://127.0.0.1:{self.server.server_address[1]}"
        self.ca = self.dir / "ca.crt"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    @property
    def answers(self):
        return self.server.answers

    @property
    def seen(self):
        return self.server.seen

    def env(self, **more):
        keep = {k: os.environ[k] for k in ("PATH", "LANG", "HOME", "ASAN_OPTIONS", "TSAN_OPTIONS") if k in os.environ}
        return dict(keep, XDG_CONFIG_HOME=str(self.dir / "config"), PHOTON_HUB=self.url, PHOTON_TOKEN=TOKEN,
                    PHOTON_CA=str(self.ca), **more)

    def run(self, *args, stdin=b"", env=None, timeout=60):
        return subprocess.run([str(PHOTON), *map(str, args)], input=stdin, capture_output=True, env=env or self.env(), timeout=timeout,
                              cwd=self.dir)

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        shutil.rmtree(self.dir, ignore_errors=True)
