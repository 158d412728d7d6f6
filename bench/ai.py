"""What the hub adds where a model or an AI tool does the work: the first word, and the whole of a call of the real
Claude Code against a stand-in for its API."""
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

from parts import median, part
from tools import call, quantile
from world import die_unless

ROOT = Path(__file__).resolve().parents[1]
PEERS = ROOT / "tests" / "peers"
WORDS = 40
CALLS = 7


class Thinker(http.server.BaseHTTPRequestHandler):
    """An endpoint that says its first word when it is told to, and notes when it did."""
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.server.go.acquire()
        self.server.sent = time.monotonic()
        self.wfile.write(b'data: {"choices":[{"delta":{"content":"word"}}]}\n\n')
        self.server.go.acquire()
        self.wfile.write(b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n')
        self.close_connection = True

    def log_message(self, *args):
        pass


def connected(pid):
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if os.readlink(fd).startswith("socket:"):
                return True
        except OSError:
            pass
    return False


def first_word(w, fig, srv):
    env = w.env(PHOTON_HUB=w.url, PHOTON_TOKEN=w.token, PHOTON_CA=w.ca)
    ms = []
    for _ in range(WORDS):
        srv.go = threading.Semaphore(0)
        doc = w.api("POST", "/calls", {"tool": "llm.chat", "input": {"endpoint": "e", "prompt": "hi"}})
        p = subprocess.Popen([str(w.build / "photon"), "logs", doc["id"], "-f"], stdout=subprocess.PIPE, env=env)
        end = time.monotonic() + 20
        while not (connected(p.pid) and w.api("GET", f"/runs/{doc['id']}")["steps"][0]["state"] == "running"):
            die_unless(time.monotonic() < end, "the call does not run, or the CLI does not follow")
            time.sleep(0.01)
        time.sleep(0.1)  # past the CLI's handshake: the word finds it waiting, as it does in life
        srv.go.release()
        die_unless(os.read(p.stdout.fileno(), 100) == b"word", "another word came")
        ms.append((time.monotonic() - srv.sent) * 1e3)
        srv.go.release()
        p.stdout.close()
        p.wait(20)
    fig.add("first_token_p50", round(median(ms), 1), "ms", ("<=", 20), note="from the endpoint's write to the CLI's standard output")
    fig.add("first_token_p90", round(quantile(ms, 0.9), 1), "ms")


def claude(w, fig, times):
    """`times`: what lifetime.c wrote, a line a call: its own life in ns."""
    added, whole = [], []
    for i in range(CALLS + 1):
        work = w.dir / f"work{i}"
        work.mkdir()
        took, out = call(w, "claude-code.prompt", {"prompt": "say hello", "cwd": str(work)})
        die_unless(out["text"], "Claude Code said nothing")
        own = int(times.read_text().split()[-1]) / 1e6
        if i:
            added.append((took - own) / took)
            whole.append(took)
    fig.add("claude_code_added", round(100 * median(added), 2), "%", ("<=", 1),
            note="of a call's wall time at the API, what lies outside the life of the program itself")
    fig.seen["claude_code"] = {"ms": [round(x) for x in whole], "added_percent": [round(100 * x, 2) for x in added]}


@part
def ai(w, fig, rounds):
    del rounds
    srv = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Thinker)
    srv.daemon_threads = True
    threading.Thread(target=srv.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    models = subprocess.Popen([sys.executable, str(PEERS / "models.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    real, bin_, times = PEERS / "installed" / "bin" / "claude", w.dir / "bin", w.dir / "bin" / "claude.times"
    try:
        port = int(models.stdout.readline().split()[1])
        bin_.mkdir()
        if real.exists():
            shutil.copy(w.build / "bench" / "lifetime", bin_ / "claude")
            (bin_ / "claude.real").symlink_to(real.resolve())
        env = {"PATH": f"{bin_}:/usr/bin:/bin", "HOME": str(w.dir), "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{port}",
               "ANTHROPIC_API_KEY": "stand-in-key", "DISABLE_TELEMETRY": "1", "DISABLE_ERROR_REPORTING": "1",
               "DISABLE_AUTOUPDATER": "1", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}
        (w.dir / "policy.yaml").write_text(json.dumps({"version": 1, "files": {"write": [str(w.dir)]}, "env": {"pass": [], "set": env}}))
        (w.dir / "policy.yaml").chmod(0o600)
        (w.dir / "agent.yaml").write_text(json.dumps({"models": [
            {"name": "e", "kind": "openai", "base_url": f"http://127.0.0.1:{srv.server_port}/v1", "models": ["m"]}]}))
        w.start_hub()
        w.start_agents(["a1"], "--policy", w.dir / "policy.yaml", "--config", w.dir / "agent.yaml")
        first_word(w, fig, srv)
        if real.exists():
            claude(w, fig, times)
        else:
            fig.seen["claude_code"] = "the real Claude Code is not installed (tests/peers/install.sh)"
    finally:
        models.stdin.close()
        models.wait(10)
        srv.shutdown()
        srv.server_close()
