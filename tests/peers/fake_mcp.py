#!/usr/bin/env python3
"""A stand-in for an MCP server, both eras at once (2025-11-25 and before, 2026-07-28), on stdin
and stdout, or over HTTP at /mcp:

    fake_mcp.py [--http PORT] [--era legacy|modern|both] [--page N] [--log FILE] [--token T]
                [--forget N] [--start exit|hang|slow:MS] [--late] [--flood]

With --http it prints `ready PORT` and ends with its standard input. --page: so many tools in a page
of tools/list. --token: a bearer token that HTTP requests must bring. --forget: an HTTP session is
unknown (404) after N requests. --log: every message that came, a JSON line each. --late: while its tools
are read for the first time one is added and told, and the list is the old one. --flood: before each answer
to a call a thousand lines that are no messages, requests that nobody serves, changes of tools, progress of
nothing, and answers to what was not asked. Tools:

    echo {text}     add {a, b}: structured      fail {text}: isError    big {bytes}
    slow {steps, ms}: with progress             ask {question}: a question to people (elicitation)
    die: the process ends in the middle         hang: never answers     env {name}
    grow: one tool more, and tells so           noise: rubbish on stdout, then answers (stdio)
    half: half a message, then the end          child {file}: leaves a process behind"""
import argparse
import json
import os
import queue
import signal
import sys
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import fake  # noqa: E402

LEGACY = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"]
MODERN = "2026-07-28"
META = "io.modelcontextprotocol/"
SERVER = {"name": "fake-mcp", "title": "Stand-in", "version": fake.VERSION}


def tool(name, about, props=None, required=(), out=None, **annotations):
    t = {"name": name, "description": about, "inputSchema": {"type": "object", "properties": props or {}, "required": list(required)}}
    if out:
        t["outputSchema"] = {"type": "object", "properties": out, "required": list(out)}
    if annotations:
        t["annotations"] = annotations
    return t


STRING, INTEGER = {"type": "string"}, {"type": "integer", "minimum": 0}
TOOLS = [tool("echo", "Gives the text back", {"text": STRING}, ["text"], readOnlyHint=True),
         tool("add", "Adds two numbers", {"a": {"type": "number"}, "b": {"type": "number"}}, ["a", "b"], {"sum": {"type": "number"}},
              readOnlyHint=True, idempotentHint=True),
         tool("fail", "Says that it failed", {"text": STRING}), tool("big", "A long text", {"bytes": INTEGER}, ["bytes"]),
         tool("slow", "Tells its progress", {"steps": INTEGER, "ms": INTEGER}), tool("ask", "Asks somebody", {"question": STRING}, ["question"]),
         tool("die", "Ends the server", destructiveHint=True), tool("hang", "Never answers"), tool("env", "A variable", {"name": STRING}, ["name"]),
         tool("grow", "Adds a tool"), tool("noise", "Rubbish, then an answer"), tool("half", "Half a message"),
         tool("child", "Leaves a process behind", {"file": STRING}, ["file"])]


class Fault(Exception):
    def __init__(self, code, message, data=None):
        super().__init__(message)
        self.doc = {"code": code, "message": message, **({"data": data} if data else {})}


class Link:
    """Where the messages of one client go, and what it was asked."""

    def __init__(self, write):
        self.write, self.running, self.asked, self.n = write, {}, {}, 0
        self.capabilities = {}

    def ask(self, method, params, cancelled):
        """A request of ours to a client of the legacy era; its result, None when it refuses or the call is cancelled."""
        self.n += 1
        rid = f"ask-{self.n}"
        q = self.asked[rid] = queue.Queue()
        self.write({"jsonrpc": "2.0", "id": rid, "method": method, "params": params})
        while not cancelled.is_set():
            try:
                return q.get(timeout=0.05).get("result")
            except queue.Empty:
                pass
        return None


class Server:
    def __init__(self, o):
        self.o, self.lock = o, threading.Lock()
        self.tools = list(TOOLS)
        self.log = open(o.log, "a", encoding="utf-8") if o.log else None

    def record(self, m):
        if self.log:
            with self.lock:
                self.log.write(json.dumps(m) + "\n")
                self.log.flush()

    def handle(self, link, m, version=None):
        """A message; its answer, or None. May take long: call it in a thread of its own."""
        if "method" not in m:
            q = link.asked.pop(m.get("id"), None)
            if q:
                q.put(m)
            return None
        p, rid = m.get("params") or {}, m.get("id")
        if m["method"] == "notifications/cancelled":
            ev = link.running.get(json.dumps(p.get("requestId")))
            if ev:
                ev.set()
            return None
        if rid is None:
            return None
        ev = link.running[json.dumps(rid)] = threading.Event()
        try:
            said = (p.get("_meta") or {}).get(META + "protocolVersion")
            modern = said is not None or m["method"] == "server/discover" or version == MODERN
            result = self.answer(link, m["method"], p, modern, said, ev)
            if modern:
                result.setdefault("resultType", "complete")
                result.setdefault("_meta", {})[META + "serverInfo"] = SERVER
            return None if ev.is_set() and not modern else {"jsonrpc": "2.0", "id": rid, "result": result}
        except Fault as e:
            return {"jsonrpc": "2.0", "id": rid, "error": e.doc}
        finally:
            link.running.pop(json.dumps(rid), None)

    def answer(self, link, method, p, modern, said, cancelled):
        unknown = Fault(-32601, f"Method not found: {method}")
        if modern and self.o.era == "legacy" or method == "initialize" and self.o.era == "modern":
            raise unknown
        if modern and said not in (None, MODERN):
            raise Fault(-32022, "Unsupported protocol version", {"supported": [MODERN], "requested": said})
        lists = {"ttlMs": 1000, "cacheScope": "private"} if modern else {}
        caps = {"tools": {"listChanged": True}}
        if method == "initialize" and not modern:
            link.capabilities = p.get("capabilities") or {}
            v = p.get("protocolVersion")
            return {"protocolVersion": v if v in LEGACY else LEGACY[0], "capabilities": caps, "serverInfo": SERVER, "instructions": "A stand-in."}
        if method == "server/discover" and modern:
            return {"supportedVersions": [MODERN], "capabilities": caps, "instructions": "A stand-in.", **lists}
        if method == "ping" and not modern:
            return {}
        if method == "tools/list":
            tools = self.tools
            if self.o.late:
                self.o.late, self.tools = False, tools + [tool("late", "Was not there yet")]
                link.write({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
            at, n = int(p.get("cursor") or 0), self.o.page or len(tools)
            more = {"nextCursor": str(at + n)} if at + n < len(tools) else {}
            return {"tools": tools[at:at + n], **more, **lists}
        if method == "tools/call":
            if modern:
                link.capabilities = (p.get("_meta") or {}).get(META + "clientCapabilities") or {}
            return self.call(link, p, modern, cancelled)
        raise unknown

    def call(self, link, p, modern, cancelled):
        name, a = p.get("name"), p.get("arguments") or {}
        for i in range(1000 if self.o.flood else 0):
            link.write('{"jsonrpc":"2.0","id":')
            link.write({"jsonrpc": "2.0", "id": f"r{i}", "method": "sampling/createMessage" if i % 2 else "roots/list", "params": {}})
            link.write({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
            link.write({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 10**6 + i, "progress": i}})
            link.write({"jsonrpc": "2.0", "id": 10**6 + i, "result": {}})
        t = next((t for t in self.tools if t["name"] == name), None)
        if t is None:
            raise Fault(-32602, f"Unknown tool: {name}")
        gone = [k for k in t["inputSchema"]["required"] if k not in a]
        if gone:
            return text(f"missing arguments: {', '.join(gone)}", error=True)
        if name == "add":
            s = a["a"] + a["b"]
            return {**text(json.dumps({"sum": s})), "structuredContent": {"sum": s}}
        if name == "fail":
            return text(a.get("text", "it failed"), error=True)
        if name == "big":
            return text("x" * int(a["bytes"]))
        if name == "env":
            return text(os.environ.get(a["name"], "(not set)"))
        if name == "slow":
            return self.slow(link, p, a, cancelled)
        if name == "ask":
            return self.ask(link, p, a["question"], modern, cancelled)
        if name == "die":
            os._exit(9)
        if name == "hang":
            cancelled.wait()
            return text("cancelled", error=True)
        if name == "grow":
            with self.lock:
                self.tools = self.tools + [tool(f"grown_{len(self.tools)}", "Grown while running")]
            link.write({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
            return text(f"{len(self.tools)} tools")
        if name in ("noise", "half"):
            link.write("this is no JSON" if name == "noise" else None)
        if name == "child":
            fake.grandchild(a["file"])
        return text(a.get("text") or f"{name} done")

    @staticmethod
    def slow(link, p, a, cancelled):
        token, steps = (p.get("_meta") or {}).get("progressToken"), int(a.get("steps", 3))
        for i in range(steps):
            if cancelled.wait(int(a.get("ms", 10)) / 1000):
                return text("cancelled", error=True)
            if token is not None:
                link.write({"jsonrpc": "2.0", "method": "notifications/progress", "params": {
                    "progressToken": token, "progress": i + 1, "total": steps, "message": f"step {i + 1} of {steps}"}})
        return text(f"{steps} steps done")

    @staticmethod
    def ask(link, p, question, modern, cancelled):
        params = {"mode": "form", "message": question, "requestedSchema": {
            "type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}}
        if "elicitation" not in link.capabilities:
            return text("the client answers no questions", error=True)
        if not modern:
            params.pop("mode")
            got = link.ask("elicitation/create", params, cancelled)
        elif "inputResponses" not in p:
            return {"resultType": "input_required", "inputRequests": {"q1": {"method": "elicitation/create", "params": params}},
                    "requestState": "asked"}
        elif p.get("requestState") != "asked":
            raise Fault(-32602, "requestState is not the one that was given")
        else:
            got = p["inputResponses"].get("q1")
        if not got or got.get("action") != "accept":
            return text(f"no answer: {(got or {}).get('action', 'cancelled')}", error=True)
        return text(f"they said {got['content']['answer']}")


def text(t, error=False):
    return {"content": [{"type": "text", "text": t}], "isError": error}


# --- stdin and stdout

def serve_stdio(server):
    lock = threading.Lock()

    def write(m):
        with lock:
            if m is None:
                sys.stdout.write('{"jsonrpc":"2.0","id":')
                sys.stdout.flush()
                os._exit(0)
            sys.stdout.write((m if isinstance(m, str) else json.dumps(m)) + "\n")
            sys.stdout.flush()

    link = Link(write)
    for line in sys.stdin:
        try:
            m = json.loads(line)
        except ValueError:
            write({"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "Parse error"}})
            continue
        server.record(m)

        def body(m=m):
            out = server.handle(link, m)
            if out is not None:
                write(out)
        if m.get("method") == "tools/call":
            threading.Thread(target=body, daemon=True).start()
        else:
            body()
    os._exit(0)


# --- HTTP

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # what was said is on its way before a reset takes the rest along
    server_version = "fake-mcp"
    mcp, sessions = None, {}

    def log_message(self, *a):
        pass

    def plain(self, status, doc=None, **headers):
        data = json.dumps(doc).encode() if doc is not None else b""
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        if doc is not None:
            self.send_header("Content-Type", "application/json")
        for k, v in headers.items():
            self.send_header(k.replace("_", "-"), v)
        self.end_headers()
        self.wfile.write(data)

    def allowed(self):
        if self.path.split("?")[0] != "/mcp":
            self.plain(404, {"error": "no such path"})
        elif self.mcp.o.token and self.headers.get("Authorization") != "Bearer " + self.mcp.o.token:
            self.plain(401, {"error": "unauthorized"}, WWW_Authenticate="Bearer")
        else:
            return True
        return False

    def do_GET(self):
        if self.allowed():
            self.plain(405, {"error": "no stream"}, Allow="POST, DELETE")

    def do_DELETE(self):
        if self.allowed():
            gone = self.sessions.pop(self.headers.get("Mcp-Session-Id"), None)
            self.plain(200 if gone else 404, {})

    def do_POST(self):
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not self.allowed():
            return
        try:
            m = json.loads(raw)
        except ValueError:
            return self.plain(400, {"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "Parse error"}})
        self.mcp.record({**m, "_headers": {k.lower(): v for k, v in self.headers.items() if k.lower().startswith("mcp")}})
        version = self.headers.get("MCP-Protocol-Version")
        modern = version == MODERN or META + "protocolVersion" in ((m.get("params") or {}).get("_meta") or {})
        if modern and self.mcp.o.era != "legacy":
            if self.headers.get("Mcp-Method") != m.get("method") or m.get("method") == "tools/call" and self.headers.get("Mcp-Name") != m["params"].get("name"):
                return self.plain(400, {"jsonrpc": "2.0", "id": m.get("id"), "error": {"code": -32020, "message": "headers and body differ"}})
            link, headers = Link(None), {}
        elif m.get("method") == "initialize":
            sid = str(uuid.uuid4())
            link = self.sessions[sid] = Link(None)
            link.left = self.mcp.o.forget or None
            headers = {"Mcp_Session_Id": sid}
        else:
            sid = self.headers.get("Mcp-Session-Id")
            link, headers = self.sessions.get(sid), {}
            if link is None:
                return self.plain(404 if sid else 400, {"jsonrpc": "2.0", "id": m.get("id"), "error": {"code": -32001, "message": "Session not found"}})
            if link.left is not None:
                link.left -= 1
                if link.left < 0:
                    del self.sessions[sid]
                    return self.plain(404, {"jsonrpc": "2.0", "id": m.get("id"), "error": {"code": -32001, "message": "Session not found"}})
        self.reply(link, m, version, headers)

    def reply(self, link, m, version, headers):
        if m.get("method") != "tools/call" or "text/event-stream" not in self.headers.get("Accept", ""):
            link.write = lambda m: None
            out = self.mcp.handle(link, m, version)
            if out is None:
                return self.plain(202, **headers)
            code = out.get("error", {}).get("code")
            return self.plain(404 if code == -32601 and version == MODERN else 400 if code == -32022 else 200, out, **headers)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        lock = threading.Lock()

        def write(doc):
            if doc is None:
                self.connection.shutdown(2)
                os._exit(0)
            data = b"event: message\ndata: " + (doc if isinstance(doc, str) else json.dumps(doc)).encode() + b"\n\n"
            with lock:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                self.wfile.flush()
        # A legacy session's other calls write to streams of their own: one writer each.
        mine = Link(write)
        mine.asked, mine.running, mine.capabilities = link.asked, link.running, link.capabilities
        mine.n = uuid.uuid4().int % 10**9
        try:
            out = self.mcp.handle(mine, m, version)
            if out is not None:
                write(out)
            self.wfile.write(b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True


def serve_http(server, port):
    Handler.mcp = server
    httpd = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    httpd.daemon_threads = True

    def end_with_parent():
        while sys.stdin.buffer.read(4096):
            pass
        os._exit(0)
    threading.Thread(target=end_with_parent, daemon=True).start()
    print(f"ready {httpd.server_address[1]}", flush=True)
    httpd.serve_forever()


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--http", type=int, metavar="PORT")
    a.add_argument("--era", choices=("legacy", "modern", "both"), default="both")
    a.add_argument("--page", type=int, default=0)
    a.add_argument("--forget", type=int, default=0)
    a.add_argument("--log")
    a.add_argument("--token")
    a.add_argument("--late", action="store_true")
    a.add_argument("--flood", action="store_true")
    a.add_argument("--start", default="")
    o = a.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    if o.start == "exit":
        sys.exit("cannot start: --start exit")
    if o.start == "hang":
        time.sleep(3600)
    if o.start.startswith("slow:"):
        time.sleep(int(o.start[5:]) / 1000)
    server = Server(o)
    if o.http is None:
        serve_stdio(server)
    else:
        serve_http(server, o.http)


if __name__ == "__main__":
    main()
