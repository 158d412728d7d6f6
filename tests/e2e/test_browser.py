"""Pages through hub, agent and command line, with a real Chromium: what people see, what is left afterwards."""
import http.server
import json
import os
import shutil
import signal
import threading
import time
import unittest
from pathlib import Path

from harness import World, wait_for

FOUND = shutil.which("chromium-headless-shell") or shutil.which("chromium")
WHY = "SKIPPED: no chromium-headless-shell on this machine (make deps installs it)"
if not FOUND:
    print(WHY)

PAGE = """<!doctype html><title>Orders</title><h1>Orders</h1><form action=/sent><input id=q name=q><button>Send</button></form>
<script>document.cookie = 'seen=' + (document.cookie || 'none').length</script>"""


class Site(http.server.ThreadingHTTPServer):
    daemon_threads = True

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.server.asked.append((self.path, self.headers.get("Cookie")))
            if self.path == "/hang":
                self.server.gate.wait(60)
            body = (PAGE if self.path == "/" else f"<title>sent</title><p id=p>got {self.path}</p>").encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    def __init__(self):
        super().__init__(("127.0.0.1", 0), self.Handler)
        self.asked, self.gate = [], threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()


def processes_with(text):
    out = []
    for p in Path("/proc").glob("[0-9]*"):
        try:
            if text.encode() in (p / "cmdline").read_bytes() + (p / "environ").read_bytes():
                out.append(int(p.name))
        except OSError:
            pass
    return out


@unittest.skipUnless(FOUND, WHY)
class Browser(World):
    def setUp(self):
        super().setUp()
        self.site = Site()
        self.addCleanup(self.site.server_close)
        self.addCleanup(self.site.shutdown)
        self.addCleanup(self.site.gate.set)
        self.h = self.hub()
        self.a = self.agent(self.h, "a1")

    def left(self):
        return list((self.a.dir / "scratch").glob("browser-*"))

    def test_steps_go_on_with_a_page_and_people_see_what_it_does(self):
        wf = self.dir / "w.yaml"
        wf.write_text(f"""
name: order
steps:
  - id: open
    uses: browser.navigate
    with: {{url: "{self.site.url}/", keep: true}}
  - id: send
    needs: [open]
    uses: browser.run
    with:
      session: ${{{{ steps.open.outputs.session }}}}
      keep: false
      actions:
        - {{action: type, selector: "#q", text: "two of them"}}
        - {{action: click, text: Send}}
        - {{action: text, selector: "#p"}}
        - {{action: screenshot, path: ~/order.png}}
outputs:
  url: ${{{{ steps.send.outputs.url }}}}
""")
        r = self.h.cli("run", wf)
        self.assertEqual(r.returncode, 0, r.stderr + r.stdout)
        for want in ("send: * execute click  [completed]", "send: got /sent?q=two+of+them", "send: * read screenshot ~/order.png  [completed]"):
            self.assertEqual(r.stdout.count(want), 1, r.stdout)
        self.assertIn(f"{self.site.url}/sent?q=two+of+them", r.stdout)
        self.assertEqual((self.dir / "order.png").read_bytes()[:8], b"\x89PNG\r\n\x1a\n")
        run = r.stderr.split()[0]
        self.assertEqual(self.h.cli("logs", run, "send").stdout, "got /sent?q=two+of+them\n")
        events = [json.loads(x)["event"] for x in self.h.cli("logs", run, "send", "-o", "json", "--channel", "event").stdout.splitlines()]
        self.assertEqual((events[0]["type"], events[-1]), ("tool", {"type": "result", "status": "succeeded"}))
        self.assertEqual(len(self.site.asked), 2 + sum(p == "/favicon.ico" for p, _ in self.site.asked))

    def test_two_calls_share_nothing(self):
        for _ in range(2):
            r = self.h.cli("call", "browser.text", "--input", json.dumps({"url": self.site.url + "/"}))
            self.assertEqual(r.returncode, 0, r.stderr)
        self.assertEqual({c for p, c in self.site.asked if p == "/"}, {None})

    def test_a_cancelled_call_ends_and_the_next_one_works(self):
        status, doc = self.h.api("POST", "/calls", {"tool": "browser.navigate", "input": {"url": self.site.url + "/hang"}})
        self.assertEqual(status, 201, doc)
        wait_for("the page to ask", lambda: any(p == "/hang" for p, _ in self.site.asked))
        self.h.api("POST", f"/runs/{doc['id']}/cancel")
        self.assertEqual(self.h.wait_run(doc["id"])["state"], "cancelled")
        r = self.h.cli("call", "browser.text", "--input", json.dumps({"url": self.site.url + "/"}))
        self.assertEqual((r.returncode, json.loads(r.stdout)["title"]), (0, "Orders"), r.stderr)

    def test_kill_9_of_the_agent_leaves_no_browser_and_no_profile(self):
        r = self.h.cli("call", "browser.navigate", "--input", json.dumps({"url": self.site.url + "/", "keep": True}))
        self.assertEqual(r.returncode, 0, r.stderr)
        profile = self.left()
        self.assertEqual(len(profile), 1)
        self.assertTrue(processes_with(str(profile[0])))
        self.a.kill9()
        wait_for("the browser to end with its agent", lambda: not processes_with(str(profile[0])))
        self.a.start()
        self.assertEqual(self.left(), [])
        r = self.h.cli("call", "browser.text", "--input", json.dumps({"url": self.site.url + "/"}))
        self.assertEqual(r.returncode, 0, r.stderr)

    def test_an_agent_that_stops_takes_its_browser_along(self):
        r = self.h.cli("call", "browser.text", "--input", json.dumps({"url": self.site.url + "/"}))
        self.assertEqual(r.returncode, 0, r.stderr)
        profile = self.left()
        began = time.monotonic()
        self.assertEqual(self.a.proc.stop(), 0)
        self.assertLess(time.monotonic() - began, 10)
        self.assertEqual((processes_with(str(profile[0])), self.left()), ([], []))

    def test_a_killed_browser_is_named_and_replaced(self):
        status, doc = self.h.api("POST", "/calls", {"tool": "browser.navigate", "input": {"url": self.site.url + "/hang"}})
        self.assertEqual(status, 201, doc)
        wait_for("the page to ask", lambda: any(p == "/hang" for p, _ in self.site.asked))
        for pid in processes_with(str(self.left()[0])):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        doc = self.h.wait_run(doc["id"])
        self.assertEqual(doc["steps"][0]["error"]["code"], "browser_died", doc["steps"][0]["error"])
        r = self.h.cli("call", "browser.text", "--input", json.dumps({"url": self.site.url + "/"}))
        self.assertEqual(r.returncode, 0, r.stderr)
        wait_for("one profile, of the new browser", lambda: len(self.left()) == 1)


if __name__ == "__main__":
    unittest.main()
