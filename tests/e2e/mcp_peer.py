"""What tests of the hub's MCP server share: messages of both eras, a client over HTTPS, a running `photon mcp`."""
import http.client
import json
import re
import ssl
import subprocess

from harness import CLI, SLOW, World, clean_env

MODERN = "2026-07-28"


def modern(msg, caps=None, **meta):
    """The message with what 2026-07-28 wants in each."""
    params = msg.setdefault("params", {})
    params.setdefault("_meta", {}).update({"io.modelcontextprotocol/protocolVersion": MODERN,
                                           "io.modelcontextprotocol/clientCapabilities": caps or {}, **meta})
    return msg


def call(id, tool, args=None, token=None):
    params = {"name": tool, "arguments": args or {}}
    if token is not None:
        params["_meta"] = {"progressToken": token}
    return {"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}


def exec_args(*argv, **more):
    return {"tool": "process.exec", "input": {"argv": list(argv)}, **more}


class Reply:
    """Status, headers and the messages of a POST's answer; `open` keeps the connection."""

    def __init__(self, conn, r, is_open):
        self.conn, self.r, self.status = conn, r, r.status
        self.type = (r.getheader("Content-Type") or "").split(";")[0]
        self.session = r.getheader("Mcp-Session-Id")
        self.messages, self.body = [], b""
        if not is_open:
            self.body = r.read()
            conn.close()
            if self.type == "text/event-stream":
                self.messages = [json.loads(d) for d in re.findall(rb"^data: (.*)$", self.body, re.M)]
            elif self.body:
                self.messages = [json.loads(self.body)]

    def event(self):
        """The next message of an open stream; None at its end."""
        while line := self.r.readline():
            if line.startswith(b"data: "):
                return json.loads(line[6:])
        return None

    @property
    def last(self):
        return self.messages[-1]

    @property
    def result(self):
        return self.last["result"]

    @property
    def structured(self):
        assert not self.result.get("isError"), self.result
        return self.result["structuredContent"]


class Case(World):
    def post(self, hub, msg, headers=None, session=None, token=None, is_open=False, timeout=60):
        ctx = ssl.create_default_context(cafile=str(hub.ca))
        conn = http.client.HTTPSConnection("127.0.0.1", hub.ports[1], context=ctx, timeout=timeout * SLOW)
        h = {"Authorization": f"Bearer {token or hub.token}", "Content-Type": "application/json",
             "Accept": "application/json, text/event-stream"}
        if isinstance(msg, dict):
            if "io.modelcontextprotocol/protocolVersion" in msg.get("params", {}).get("_meta", {}):
                h.update({"MCP-Protocol-Version": MODERN, "Mcp-Method": msg["method"]})
                if "name" in msg["params"]:
                    h["Mcp-Name"] = msg["params"]["name"]
            msg = json.dumps(msg)
        if session:
            h["Mcp-Session-Id"] = session
        h.update(headers or {})
        h = {k: v for k, v in h.items() if v is not None}
        conn.request("POST", "/mcp", msg, h)
        return Reply(conn, conn.getresponse(), is_open)

    def initialize(self, hub, version="2025-11-25", caps=None, **kw):
        r = self.post(hub, {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
            "protocolVersion": version, "capabilities": caps or {}, "clientInfo": {"name": "test", "version": "1"}}}, **kw)
        self.assertEqual(r.status, 200, r.body)
        return r

    def ask(self, hub, method, session=None):
        """Status and Allow of a request without a body."""
        ctx = ssl.create_default_context(cafile=str(hub.ca))
        conn = http.client.HTTPSConnection("127.0.0.1", hub.ports[1], context=ctx, timeout=60 * SLOW)
        h = {"Authorization": f"Bearer {hub.token}", "Accept": "text/event-stream"}
        if session:
            h["Mcp-Session-Id"] = session
        conn.request(method, "/mcp", None, h)
        r = conn.getresponse()
        r.read()
        conn.close()
        return r.status, r.getheader("Allow")

    def make_token(self, hub, role):
        r = hub.cli("api-token", "create", "--name", role, "--role", role)
        self.assertEqual(r.returncode, 0, r.stderr)
        return r.stdout.strip()

    def runs(self, hub):
        return hub.api("GET", "/runs")[1]["items"]


class Stdio:
    """A running `photon mcp`."""

    def __init__(self, t, hub, **env):
        e = clean_env(t.dir, PHOTON_HUB=hub.url, PHOTON_TOKEN=hub.token, PHOTON_CA=hub.ca)
        e.update(env)
        self.err = open(t.dir / "mcp.log", "ab")
        self.p = subprocess.Popen([str(CLI), "mcp"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.err, text=True, env=e)
        t.addCleanup(self.kill)

    def kill(self):
        if self.p.poll() is None:
            self.p.kill()
        self.p.wait()
        self.p.stdin.close()
        self.p.stdout.close()
        self.err.close()

    def send(self, *messages):
        self.p.stdin.write("".join((m if isinstance(m, str) else json.dumps(m)) + "\n" for m in messages))
        self.p.stdin.flush()

    def get(self):
        line = self.p.stdout.readline()
        assert line, "photon mcp ended"
        return json.loads(line)

    def end(self):
        self.p.stdin.close()
        rest = self.p.stdout.read()
        return self.p.wait(20 * SLOW), rest
