"""The tools people use, through hub and agent: a browser's page, file calls, many calls that stream at once."""
import base64
import http.server
import json
import os
import shutil
import threading
import time

from parts import median, part
from world import die_unless

PAGES = 40
PAUSE_S = 0.4  # between two: a page that waits opened is what "warm" means
FILES = 200
STREAMS = 100
STREAM_S = 8


class Site(http.server.ThreadingHTTPServer):
    """A table of 200 rows; at /more the same with a style sheet and a script of their own."""
    daemon_threads = True

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self):
            kind, body = self.server.files.get(self.path.split("?")[0], ("text/plain", b""))
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    def __init__(self):
        super().__init__(("127.0.0.1", 0), self.Handler)
        rows = "".join(f"<tr><td>{i}<td>order {i * 7919 % 1000}<td>{i * i % 97} pieces" for i in range(200))
        self.files = {
            "/": ("text/html", f"<title>Orders</title><h1>Orders</h1><table>{rows}</table>".encode()),
            "/more": ("text/html", f"<title>Orders</title><link rel=stylesheet href=/s.css><h1>Orders</h1><table>{rows}</table>"
                                   "<script src=/a.js></script>".encode()),
            "/s.css": ("text/css", b"body{font:14px sans-serif}td{border-bottom:1px solid #ccc;padding:2px 8px}"),
            "/a.js": ("text/javascript", b"document.querySelector('h1').textContent += ' of today'"),
        }
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()


def call(w, tool, given):
    t = time.monotonic()
    doc = w.api("POST", "/calls?wait=true&timeout=60s", {"tool": tool, "input": given})
    ms = (time.monotonic() - t) * 1e3
    step = doc["steps"][0]
    die_unless(step["state"] == "succeeded", f"{tool}: {step['error']}")
    return ms, step["outputs"]


def quantile(v, q):
    return sorted(v)[min(len(v) - 1, int(len(v) * q))]


def browser(w, fig):
    if not (shutil.which("chromium-headless-shell") or shutil.which("chromium")):
        fig.seen["browser"] = "there is no chromium on this machine"
        return
    site = Site()
    seen = {}
    for path in ("/", "/more"):
        ms = []
        for i in range(PAGES + 5):
            took, out = call(w, "browser.screenshot", {"url": f"http://127.0.0.1:{site.server_port}{path}?{i}"})
            if i >= 5:
                ms.append(took)
            time.sleep(PAUSE_S)
        seen[path] = {"ms": [round(x, 1) for x in ms], "png_bytes": len(base64.b64decode(out["base64"]))}
    site.shutdown()
    site.server_close()
    fig.add("browser_navigate_screenshot_p50", round(median(seen["/"]["ms"]), 1), "ms", ("<=", 150),
            note="a warm page with a fresh profile, a document of 200 rows opened and drawn at 1280 x 720, the picture in the outputs")
    fig.add("browser_navigate_screenshot_p90", round(quantile(seen["/"]["ms"], 0.9), 1), "ms")
    fig.add("browser_with_css_and_js_p50", round(median(seen["/more"]["ms"]), 1), "ms", note="the same page with two files of its own")
    fig.seen["browser"] = seen


def files(w, fig):
    data = base64.b64encode(os.urandom((1 << 20) * 3 // 4)).decode()
    path = str(w.dir / "file")
    write, read = [], []
    for _ in range(FILES):
        took, _ = call(w, "file.write", {"path": path, "content": data})
        write.append(took)
        took, out = call(w, "file.read", {"path": path})
        read.append(took)
        die_unless(out["size"] == 1 << 20, "file.read")
    fig.add("file_write_1MiB_p99", round(quantile(write, 0.99), 1), "ms", ("<=", 100))
    fig.add("file_read_1MiB_p99", round(quantile(read, 0.99), 1), "ms", ("<=", 100))
    fig.seen["files"] = {"write_p50_ms": round(median(write), 1), "read_p50_ms": round(median(read), 1)}


def fairness(w, fig):
    """Calls that write as fast as they can for some seconds; how much each got out of the door."""
    text = f"timeout {STREAM_S} yes 0123456789012345678901234567890123456789 || true"
    began = time.monotonic()
    _, doc = w.run({"name": "streams", "steps": [{"id": f"s{i}", "run": text} for i in range(STREAMS)]})
    took = time.monotonic() - began
    doc = w.api("GET", f"/runs/{doc['id']}")
    n = [s["output_bytes"] for s in doc["steps"]]
    die_unless(all(s["state"] == "succeeded" for s in doc["steps"]), "a stream failed")
    fig.add("streams_100_min_to_max", round(min(n) / max(n), 3), "ratio", (">=", 0.2),
            note="bytes of the slowest and of the fastest of 100 calls that stream at once on one agent")
    fig.add("streams_100_total", round(sum(n) / took / 1e6, 1), "MB/s")
    fig.seen["streams"] = {"min": min(n), "max": max(n), "median": median(n), "seconds": round(took, 1)}


@part
def tools(w, fig, rounds):
    del rounds
    w.start_hub()
    policy = w.dir / "policy.yaml"
    policy.write_text(json.dumps({"version": 1, "limits": {"running": STREAMS + 8}, "files": {"write": [str(w.dir)]}}))
    policy.chmod(0o600)
    w.start_agents(["a1"], "--policy", policy, "--max-running", STREAMS + 8)
    browser(w, fig)
    files(w, fig)
    fairness(w, fig)
