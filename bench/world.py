"""A real hub and real agents in a scratch folder on loopback, and what /proc says about them."""
import http.client
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import tempfile
import time
from pathlib import Path

READY_S = 60


def die_unless(ok, what):
    if not ok:
        raise RuntimeError(what)


class Daemon:
    """One process of ours, ended by its pid; what it says on stderr is kept for when it fails."""

    def __init__(self, args, log, env=None, stdin=subprocess.DEVNULL):
        self.name = Path(args[0]).name
        self.log = Path(log)
        with open(log, "wb") as err:
            self.p = subprocess.Popen([str(a) for a in args], stdin=stdin, stdout=subprocess.PIPE, stderr=err, env=env)
        self.pid = self.p.pid

    def line(self):
        text = self.p.stdout.readline().decode()
        die_unless(text, f"{self.name} ended early: {self.log.read_text(errors='replace')[-2000:]}")
        return text.strip()

    def stop(self):
        if self.p.poll() is None:
            self.p.terminate()
            try:
                self.p.wait(20)
            except subprocess.TimeoutExpired:
                self.p.kill()
                self.p.wait()
        self.p.stdout.close()
        if self.p.stdin:
            self.p.stdin.close()

    # What the kernel says about it.
    def status(self, key):
        return int(re.search(rf"^{key}:\s+(\d+)", Path(f"/proc/{self.pid}/status").read_text(), re.M).group(1))

    def rss_kib(self):
        return self.status("VmRSS")

    def reset_peak(self):
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def peak_kib(self):
        return self.status("VmHWM")

    def threads(self):
        """Per thread name ("loop": the main thread): CPU nanoseconds and wake-ups (voluntary switches)."""
        out = {}
        for t in Path(f"/proc/{self.pid}/task").iterdir():
            try:
                name = "loop" if int(t.name) == self.pid else (t / "comm").read_text().strip()
                ns = int((t / "schedstat").read_text().split()[0])
                woke = int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", (t / "status").read_text(), re.M).group(1))
            except (FileNotFoundError, ProcessLookupError):
                continue
            old = out.get(name, (0, 0))
            out[name] = (old[0] + ns, old[1] + woke)
        return out


def cpu_ns(d):
    return sum(ns for ns, _ in d.threads().values())


def wakeups(d):
    return sum(w for _, w in d.threads().values())


class World:
    """Use as a context: everything started in it is stopped and its folder deleted."""

    def __init__(self, build, scratch):
        self.build = Path(build)
        self.dir = Path(tempfile.mkdtemp(prefix="photon-bench-", dir=scratch))
        self.daemons = []
        self.hub = None
        self.agents = {}
        self.conn = None

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.conn:
            self.conn.close()
        for d in reversed(self.daemons):
            d.stop()
        shutil.rmtree(self.dir, ignore_errors=True)

    def env(self, **more):
        e = {"PATH": os.environ["PATH"], "HOME": str(self.dir), "XDG_CONFIG_HOME": str(self.dir / "config"), "LC_ALL": "C.UTF-8"}
        e.update({k: str(v) for k, v in more.items()})
        return e

    def program(self, name):
        return self.build / "bench" / name

    def tool(self, name, *args, env=None, timeout=600):
        """Runs a program of bench/ that prints one JSON object."""
        r = subprocess.run([str(self.program(name)), *map(str, args)], capture_output=True, text=True, timeout=timeout,
                           env=self.env(**(env or {})))
        die_unless(r.returncode == 0, f"{name} {args}: {r.stderr or r.stdout}")
        return json.loads(r.stdout)

    def daemon(self, name, args, **kw):
        d = Daemon(args, self.dir / f"{name}.log", **kw)
        self.daemons.append(d)
        return d

    def start_hub(self):
        r = subprocess.run([str(self.build / "photon-hub"), "init", "--data", str(self.dir / "hub"), "--host", "localhost",
                            "-o", "json"], capture_output=True, text=True, env=self.env(), timeout=60)
        die_unless(r.returncode == 0, r.stderr)
        self.token = json.loads(r.stdout)["admin_token"]
        self.ca = self.dir / "hub" / "pki" / "ca.crt"
        self.hub = self.daemon("hub", [self.build / "photon-hub", "serve", "--data", self.dir / "hub", "--agent-listen",
                                       "127.0.0.1:0", "--api-listen", "127.0.0.1:0", "--advertise", "127.0.0.1",
                                       "--log-level", "warn"], env=self.env())
        self.port = int(re.match(r"ready agent=\S+ api=https://\S+:(\d+)$", self.hub.line()).group(1))
        self.url = f"https://127.0.0.1:{self.port}"
        return self.hub

    def api(self, method, path, body=None, timeout=600):
        """One request on the world's one kept-alive connection."""
        if not self.conn:
            ctx = ssl.create_default_context(cafile=str(self.ca))
            self.conn = http.client.HTTPSConnection("127.0.0.1", self.port, context=ctx, timeout=timeout)
        headers = {"Authorization": f"Bearer {self.token}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
            if not isinstance(body, (bytes, str)):
                body = json.dumps(body)
        try:
            self.conn.request(method, "/api/v1" + path, body, headers)
            r = self.conn.getresponse()
            data = r.read()
        except (http.client.HTTPException, OSError):
            self.conn.close()
            self.conn = None
            raise
        die_unless(r.status < 300, f"{method} {path}: {r.status} {data[:500]!r}")
        return json.loads(data) if data else None

    def join_token(self, uses):
        return self.api("POST", "/join-tokens", {"uses": uses})["token"]

    def start_agents(self, names, *args):
        token = self.join_token(len(names))
        for n in names:
            self.agents[n] = self.daemon(n, [self.build / "photon-agent", "run", "--data", self.dir / n, "--name", n,
                                             "--log-level", "warn", *args], env=self.env(PHOTON_JOIN_TOKEN=token))
        self.wait_online(set(names))

    def wait_online(self, names):
        end = time.monotonic() + READY_S
        while not names <= {a["name"] for a in self.api("GET", "/agents?limit=500")["items"] if a["state"] == "online"}:
            die_unless(time.monotonic() < end, f"not online after {READY_S} s: {names}")
            time.sleep(0.02)

    def run(self, workflow):
        """Submits, waits as a user would, and looks whether every step did what it should. Seconds."""
        body = json.dumps({"workflow": workflow})
        self.api("GET", "/whoami")  # a connection that is up
        began = time.monotonic()
        doc = self.api("POST", "/runs?wait=true&steps=false&timeout=10m", body)
        took = time.monotonic() - began
        die_unless(doc["state"] == "succeeded", f"run ended {doc['state']}: {doc.get('error')}")
        return took, doc


def quiet_signals():
    """Ctrl-C and TERM end in the worlds' __exit__."""
    def stop(*_):
        raise KeyboardInterrupt
    signal.signal(signal.SIGTERM, stop)
