"""Every road out of a page that is no plain request: WebRTC with STUN and TURN, QUIC, workers that outlive their page,
what a browser fetches ahead. Listeners on loopback that the agent's policy does not allow must see nothing of them."""
import http.server
import json
import os
import select
import shutil
import signal
import socket
import threading
import unittest
from pathlib import Path

from harness import World

FOUND = shutil.which("chromium-headless-shell") or shutil.which("chromium")
WHY = "SKIPPED: no chromium-headless-shell on this machine (make deps installs it)"
if not FOUND:
    print(WHY)

DENIED = "127.0.0.2"


class Listeners:
    """Sockets where nobody may call: what arrives is kept, by the name of the road."""

    def __init__(self, case):
        self.seen, self.socks = [], {}
        for name, kind, host in (("udp", socket.SOCK_DGRAM, "127.0.0.1"), ("udp-denied", socket.SOCK_DGRAM, DENIED), ("udp6", socket.SOCK_DGRAM, "::1"),
                                 ("tcp-denied", socket.SOCK_STREAM, DENIED), ("tcp6-denied", socket.SOCK_STREAM, "::1")):
            s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)
            try:
                s.bind((host, 0))
            except OSError:  # a machine without IPv6
                s.close()
                continue
            if kind == socket.SOCK_STREAM:
                s.listen(50)
            case.addCleanup(s.close)
            self.socks[s] = name
        self.port = {name: s.getsockname()[1] for s, name in self.socks.items()}
        for name in ("udp6", "tcp6-denied"):
            self.port.setdefault(name, 9)

    def heard(self):
        """Everything that has arrived; what is on its way over loopback is there at once."""
        while ready := select.select(list(self.socks), [], [], 0)[0]:
            for s in ready:
                name = self.socks[s]
                if name.startswith("udp"):
                    self.seen.append((name, s.recvfrom(2048)[0][:40]))
                else:
                    c, _ = s.accept()
                    c.settimeout(2)
                    try:
                        self.seen.append((name, c.recv(200)))
                    except OSError:
                        self.seen.append((name, b""))
                    c.close()
        return self.seen


class Site(http.server.ThreadingHTTPServer):
    """Pages by path, on 127.0.0.1; a page says what it has done in its title."""
    daemon_threads = True

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            path = self.path.split("?")[0]
            self.server.asked.append(self.path)
            self.server.hosts.append((self.headers.get("Host"), self.path))
            kind, body, more = self.server.pages.get(path, ("text/html", "<title>none</title>", {}))
            body = body.encode()
            self.send_response(200)
            for k, v in {"Content-Type": kind, "Content-Length": str(len(body)), "Cache-Control": "max-age=600", **more}.items():
                self.send_header(k, v)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *args):
            pass

    def __init__(self):
        super().__init__(("127.0.0.1", 0), self.Handler)
        self.asked, self.hosts, self.pages = [], [], {}
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def page(self, path, body, kind="text/html", **more):
        self.pages[path] = (kind, body, {k.replace("_", "-"): v for k, v in more.items()})


# What a page tries until it has tried all; `done` is its title then.
RTC = """<!doctype html><title>begun</title><script>
const P = %(ports)s, D = '%(denied)s';
async function gather(policy) {
  const said = [];
  const pc = new RTCPeerConnection({iceTransportPolicy: policy, iceServers: [
    {urls: [`stun:127.0.0.1:${P.udp}`, `stun:localhost:${P.udp}`, `stun:[::1]:${P['udp6']}`, `stun:${D}:${P['udp-denied']}`]},
    {urls: [`turn:127.0.0.1:${P.udp}?transport=udp`, `turn:${D}:${P['udp-denied']}?transport=udp`, `turn:[::1]:${P['udp6']}?transport=udp`,
            `turn:${D}:${P['tcp-denied']}?transport=tcp`, `turns:${D}:${P['tcp-denied']}?transport=tcp`, `turn:[::1]:${P['tcp6-denied']}?transport=tcp`],
     username: 'u', credential: 'c'}]});
  pc.onicecandidate = e => { if (e.candidate) said.push(e.candidate.candidate); };
  pc.createDataChannel('x');
  await pc.setLocalDescription(await pc.createOffer());
  const fp = pc.localDescription.sdp.match(/a=fingerprint:.*/)[0];
  /* An answer of our own: a peer that lives where nobody may call. */
  const mid = pc.localDescription.sdp.match(/a=mid:(.*)/)[1].trim();
  const hosts = [['127.0.0.1', P.udp, 'udp'], [D, P['udp-denied'], 'udp'], [D, P['tcp-denied'], 'tcp'], ['::1', P['udp6'], 'udp'],
                 ['leak.example', P.udp, 'udp'], ['11111111-2222-3333-4444-555555555555.local', P.udp, 'udp']];
  const cand = hosts.map(([h, p, t], i) => `a=candidate:${i + 1} 1 ${t} ${2113937151 - i} ${h} ${p} typ host` + (t === 'tcp' ? ' tcptype passive' : '')).join('\\r\\n');
  await pc.setRemoteDescription({type: 'answer', sdp: ['v=0', 'o=- 1 2 IN IP4 127.0.0.1', 's=-', 't=0 0', `a=group:BUNDLE ${mid}`,
    'm=application 9 UDP/DTLS/SCTP webrtc-datachannel', 'c=IN IP4 0.0.0.0', 'a=ice-ufrag:abcd', 'a=ice-pwd:abcdefghijklmnopqrstuvwxyz',
    fp, 'a=setup:active', `a=mid:${mid}`, 'a=sctp-port:5000', cand, ''].join('\\r\\n')});
  /* Gathered, and every pair has been tried and failed; or so long as connectivity checks repeat many times. */
  await Promise.race([new Promise(r => { pc.oniceconnectionstatechange = () => { if (pc.iceConnectionState === 'failed') r(); }; }),
                      new Promise(r => setTimeout(r, 4000))]);
  const state = pc.iceGatheringState;
  pc.close();
  return {policy, state, said};
}
(async () => {
  const out = [];
  for (const policy of ['all', 'relay']) {
    try { out.push(await gather(policy)); } catch (e) { out.push({policy, error: String(e)}); }
  }
  document.body.textContent = JSON.stringify(out);
  document.title = 'done';
})();
</script><body>"""


AHEAD = """<!doctype html><title>begun</title>
<link rel=preconnect href=%(bad)s><link rel=dns-prefetch href=//leak.example:%(tcp)s><link rel=prefetch href=%(bad)s/prefetch><link rel=preload as=image href=%(bad)s/preload>
<link rel=modulepreload href=%(bad)s/module><link rel=prerender href=%(bad)s/prerender><link rel=icon href=%(bad)s/icon><link rel=manifest href=%(bad)s/manifest crossorigin=use-credentials>
<link rel=stylesheet href=%(bad)s/style><style>@import url(%(bad)s/import); @font-face { font-family: x; src: url(%(bad)s/font) } body { font-family: x; background: url(%(bad)s/background) }</style>
<script type=speculationrules>{"prefetch": [{"source": "list", "eagerness": "immediate", "urls": ["%(bad)s/spec-prefetch"]}, {"source": "list", "eagerness": "immediate", "urls": ["http://localhost:%(tcp)s/spec-local"]}],
 "prerender": [{"source": "list", "eagerness": "immediate", "urls": ["%(bad)s/spec-prerender"]}]}</script>
<body>text<img src=%(bad)s/img><iframe src=%(bad)s/frame></iframe><iframe srcdoc="<meta http-equiv=refresh content='0; url=%(bad)s/srcdoc'>"></iframe>
<iframe src="data:text/html,<img src=%(bad)s/data>"></iframe><video src=%(bad)s/video poster=%(bad)s/poster></video><audio src=%(bad)s/audio autoplay></audio>
<object data=%(bad)s/object></object><embed src=%(bad)s/embed><iframe name=into></iframe><a id=a href=/after ping=%(bad)s/ping target=into>x</a>
<form id=f action=%(bad)s/form method=post target=into><input name=q value=1></form>
<script>
const bad = '%(bad)s', ws = bad.replace('http', 'ws'), tries = [];
const quiet = p => tries.push(Promise.race([Promise.resolve(p).catch(e => 0), new Promise(r => setTimeout(r, 3000))]));
for (const u of ['http://2130706434:%(tcp)s/decimal', 'http://0x7f.0.0.2:%(tcp)s/hex', 'http://127.2:%(tcp)s/short', 'http://0177.0.0.2:%(tcp)s/octal', 'http://[::ffff:127.0.0.2]:%(tcp)s/mapped',
                 'http://[::1]:%(tcp6)s/six', 'http://0.0.0.0:%(site)s/zero', 'http://[::]:%(site)s/zero6', 'http://x.localhost:%(site)s/sub', 'http://leak.example:%(udp)s/name', bad + '/fetch'])
  quiet(fetch(u, {mode: 'no-cors'}));
for (const k of [WebSocket, EventSource]) try { const s = new k((k === WebSocket ? ws : bad) + '/' + k.name); quiet(new Promise(r => s.onerror = s.onopen = r)); } catch (e) {}
if (self.WebTransport) try { const t = new WebTransport('https://127.0.0.1:%(udp)s/wt', {serverCertificateHashes: [{algorithm: 'sha-256', value: new Uint8Array(32)}]}); quiet(t.ready); t.closed.catch(e => 0); } catch (e) {}
try { const w = new SharedWorker('/shared.js'); quiet(new Promise(r => w.port.onmessage = r)); } catch (e) {}
quiet(new Promise(r => { const w = new Worker(URL.createObjectURL(new Blob([`fetch('${bad}/blob').catch(e => 0).then(() => postMessage(1)); try { importScripts('${bad}/blob-import') } catch (e) {}`]))); w.onmessage = w.onerror = r; }));
navigator.sendBeacon(bad + '/beacon'); f.submit(); a.click();
for (const t of ['_blank', 'w2']) window.open(bad + '/open', t);
addEventListener('pagehide', () => { navigator.sendBeacon(bad + '/last'); fetch(bad + '/keepalive', {method: 'POST', body: 'x', keepalive: true, mode: 'no-cors'}).catch(e => 0); });
addEventListener('load', async () => { fetch('/again').catch(e => 0); await Promise.all(tries); document.title = 'done'; });
</script>"""


@unittest.skipUnless(FOUND, WHY)
class Roads(World):
    def setUp(self):
        super().setUp()
        self.site = Site()
        self.addCleanup(self.site.server_close)
        self.addCleanup(self.site.shutdown)
        self.nobody = Listeners(self)
        self.h = self.hub()
        self.agent(self.h, "a1", policy="version: 1\nbrowser: {evaluate: true}\nhttp: {allow: [\"127.0.0.1\", \"localhost\"]}\n")

    def visit(self, path, *more, **input):
        """Opens the page, waits until it says that it has tried everything, and returns the call's outputs."""
        actions = [{"action": "navigate", "url": self.site.url + path},
                   {"action": "evaluate", "expression": "new Promise(r => { const t = setInterval(() => { if (document.title === 'done') { clearInterval(t); r(document.body.textContent); } }, 20); })",
                    "timeout": "60s"}, *more]
        r = self.h.cli("call", "browser.run", "--input", json.dumps({"actions": actions, **input}), timeout=120)
        self.assertEqual(r.returncode, 0, r.stderr)
        return json.loads(r.stdout)

    def test_webrtc_sends_nothing_past_the_proxy(self):
        self.site.page("/rtc", RTC % {"ports": json.dumps(self.nobody.port), "denied": DENIED})
        out = self.visit("/rtc")
        self.assertEqual(self.nobody.heard(), [])
        said = json.loads(out["results"][1]["value"])
        self.assertEqual([(x["policy"], x.get("state"), x.get("error")) for x in said], [("all", "complete", None), ("relay", "complete", None)])
        self.assertEqual([c for x in said for c in x["said"]], [])  # nor does the page learn an address of this machine
        # It did try: TURN over TCP has to ask the proxy, which refused.
        self.assertIn(f"{DENIED}:{self.nobody.port['tcp-denied']}", out["denied"])

    def test_what_a_browser_fetches_ahead_or_at_the_end_stays_where_it_may_go(self):
        tcp, udp = self.nobody.port["tcp-denied"], self.nobody.port["udp"]
        bad = f"http://{DENIED}:{tcp}"
        self.site.page("/ahead", AHEAD % {"bad": bad, "tcp": tcp, "udp": udp, "tcp6": self.nobody.port["tcp6-denied"], "denied": DENIED, "site": self.site.server_port},
                       Link=f"<{bad}/link-preload>; rel=preload; as=script, <{bad}>; rel=preconnect, </rules.json>; rel=prefetch",
                       Speculation_Rules='"/rules.json"', Alt_Svc=f'h3="127.0.0.1:{udp}"; ma=600',
                       Content_Security_Policy_Report_Only=f"img-src 'none'; report-uri {bad}/csp",
                       Refresh=f"600; url={bad}/refresh")
        self.site.page("/rules.json", json.dumps({"prefetch": [{"source": "list", "eagerness": "immediate", "urls": [bad + "/rules-prefetch", f"{self.site.url}/ahead-good"]}],
                                                  "prerender": [{"source": "list", "eagerness": "immediate", "urls": [bad + "/rules-prerender"]}]}), "application/speculationrules+json")
        self.site.page("/shared.js", f"try {{ importScripts('{bad}/import') }} catch (e) {{}} fetch('{bad}/shared').catch(e => 0).then(() => onconnect = e => e.ports[0].postMessage('tried'))", "text/javascript")
        out = self.visit("/ahead", {"action": "navigate", "url": self.site.url + "/after"})
        self.assertEqual(self.nobody.heard(), [])
        self.assertEqual({h for h, _ in self.site.hosts} - {f"127.0.0.1:{self.site.server_port}", f"localhost:{self.site.server_port}"}, set())
        for host in (f"{DENIED}:{tcp}", f"0.0.0.0:{self.site.server_port}", f"x.localhost:{self.site.server_port}", f"leak.example:{udp}"):
            self.assertIn(host, out["denied"])

    def test_a_service_worker_ends_with_its_call_and_goes_nowhere_else(self):
        bad = f"http://{DENIED}:{self.nobody.port['tcp-denied']}"
        self.site.page("/sw.js", f"""
            const tick = () => fetch('/ping').catch(e => 0);
            oninstall = e => {{ skipWaiting(); e.waitUntil(fetch('{bad}/install', {{mode: 'no-cors'}}).catch(e => 0)); }};
            onactivate = e => e.waitUntil(clients.claim());
            onfetch = e => {{ if (new URL(e.request.url).pathname === '/poisoned') e.respondWith(new Response('<title>of the worker</title>', {{headers: {{'Content-Type': 'text/html'}}}})); }};
            onmessage = e => {{ setInterval(tick, 10); e.waitUntil(new Promise(() => 0));
              Promise.allSettled([fetch('{bad}/fetch', {{mode: 'no-cors'}}), fetch('http://127.0.0.1:9/'), new Promise(r => {{ const w = new WebSocket('{bad.replace("http", "ws")}/ws'); w.onerror = w.onopen = r; }})])
                .then(r => e.source.postMessage(r.map(x => x.status).join())); }};""", "text/javascript")
        self.site.page("/worker", """<!doctype html><title>begun</title><body><script>(async () => {
            document.cookie = 'left=1; max-age=9999'; localStorage.left = '1'; sessionStorage.left = '1';
            await (await caches.open('left')).put('/cached', new Response('x'));
            await new Promise(r => { const o = indexedDB.open('left', 1); o.onsuccess = o.onerror = r; });
            await navigator.serviceWorker.register('/sw.js');
            await navigator.serviceWorker.ready;
            if (!navigator.serviceWorker.controller) await new Promise(r => navigator.serviceWorker.oncontrollerchange = r);
            const said = new Promise(r => navigator.serviceWorker.onmessage = e => r(e.data));
            navigator.serviceWorker.controller.postMessage('go');
            const mine = await (await fetch('/poisoned')).text();
            document.body.textContent = JSON.stringify({said: await said, mine}); document.title = 'done';
          })().catch(e => { document.body.textContent = String(e); document.title = 'done'; })</script>""")
        self.site.page("/poisoned", "<!doctype html><title>of the site</title>")
        self.site.page("/look", """<!doctype html><title>begun</title><body><script>(async () => {
            document.body.textContent = JSON.stringify({cookie: document.cookie, local: localStorage.length, session: sessionStorage.length, caches: (await caches.keys()).length,
              databases: (await indexedDB.databases()).length, workers: (await navigator.serviceWorker.getRegistrations()).length, controlled: !!navigator.serviceWorker.controller,
              page: await (await fetch('/poisoned')).text()}); document.title = 'done'; })()</script>""")
        first = json.loads(self.visit("/worker")["results"][1]["value"])
        self.assertEqual(first["said"].split(",")[2], "fulfilled")  # it has tried, and was told of the end of it
        self.assertIn("of the worker", first["mine"])
        self.assertIn("/ping", self.site.asked)
        clean = {"cookie": "", "local": 0, "session": 0, "caches": 0, "databases": 0, "workers": 0, "controlled": False, "page": "<!doctype html><title>of the site</title>"}
        counts = []
        for _ in range(3):  # another call's whole life passes each time
            self.assertEqual(json.loads(self.visit("/look")["results"][1]["value"]), clean)
            counts.append(self.site.asked.count("/ping"))
        self.assertEqual(counts[1], counts[2])
        self.assertEqual(self.nobody.heard(), [])

    def test_parts_of_a_browser_that_are_killed_open_no_road(self):
        """Chromium starts most of its processes anew; whatever comes back has the same way out, or none."""
        tcp = self.nobody.port["tcp-denied"]
        self.site.page("/page", "<!doctype html><title>page</title>")
        ask = lambda url: {"action": "evaluate", "expression": f"fetch('{url}', {{mode: 'no-cors'}}).then(() => 'came', () => 'failed')", "timeout": "60s"}
        for part in ("--utility-sub-type=network", "--type=gpu-process", "--type=renderer", "--type=zygote"):
            r = self.h.cli("call", "browser.navigate", "--input", json.dumps({"url": self.site.url + "/page", "keep": True}), timeout=120)
            self.assertEqual(r.returncode, 0, r.stderr)
            session = json.loads(r.stdout)["session"]
            killed = self.kill_parts(part)
            if part in ("--utility-sub-type=network", "--type=renderer"):
                self.assertTrue(killed, (part, self.parts))
            # The page goes on, or its call says what became of it; a call later at the latest another browser works.
            r = self.h.cli("call", "browser.run", "--input", json.dumps({"session": session, "keep": False, "actions": [ask(f"http://{DENIED}:{tcp}/{part}"), ask(self.site.url + "/again")]}), timeout=120)
            if r.returncode == 0:
                self.assertEqual(json.loads(r.stdout)["results"][0]["value"], "failed", part)
            else:
                self.assertTrue(any(code in r.stderr for code in ("(page_crashed)", "(browser_died)", "(no_session)")), r.stderr)
            for last in (False, True):
                r = self.h.cli("call", "browser.run", "--input", json.dumps({"actions": [{"action": "navigate", "url": self.site.url + "/page"}, ask(f"http://{DENIED}:{tcp}/{part}"), ask(self.site.url + "/again")]}), timeout=120)
                if r.returncode == 0 or last:
                    break
                self.assertTrue("(browser_died)" in r.stderr or "(page_crashed)" in r.stderr, part + r.stderr)
            self.assertEqual(r.returncode, 0, part + r.stderr)
            self.assertEqual([x.get("value") for x in json.loads(r.stdout)["results"]], [None, "failed", "came"], part)
        self.assertEqual(self.nobody.heard(), [])

    def kill_parts(self, text):
        """Kills the processes below this world's browsers that have this text in their command line."""
        parent, command, n = {}, {}, 0
        for p in Path("/proc").glob("[0-9]*"):
            try:
                command[int(p.name)] = (p / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                parent[int(p.name)] = int((p / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                pass
        ours = {pid for pid, c in command.items() if f"--user-data-dir={self.dir}" in c and "--type=" not in c}
        for pid, c in command.items():
            up = pid
            while up in parent and up not in ours:
                up = parent[up]
            if up in ours and pid not in ours and text in c:
                try:
                    os.kill(pid, signal.SIGKILL)
                    n += 1
                except ProcessLookupError:
                    pass
        self.parts = [c[:200] for pid, c in command.items() if "--type=" in c]
        return n


if __name__ == "__main__":
    unittest.main()
