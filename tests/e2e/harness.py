"""Real binaries, as a user would run them: hubs, agents and the photon command in
scratch folders on loopback, with free ports. Everything started here is ended here, by pid."""
import base64
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

# A shell that starts a job in the background ignores SIGINT for all that follows, and an ignored signal is
# inherited: Ctrl-C must mean to our programs what it means at a terminal.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("BUILD", ROOT / "build"))
HUB, AGENT, CLI = BUILD / "photon-hub", BUILD / "photon-agent", BUILD / "photon"
SLOW = float(os.environ.get("E2E_SLOW", "1"))  # sanitizer builds take longer


def wait_for(what, cond, timeout=20.0):
    """Until cond() is true. Looking again is the only waiting here, soon at first and then less often, since
    a look is often a connection; the deadline is for failures."""
    end, pause = time.monotonic() + timeout * SLOW, 0.01
    while True:
        v = cond()
        if v:
            return v
        if time.monotonic() > end:
            raise AssertionError(f"waited {timeout * SLOW:.0f} s for: {what}")
        time.sleep(pause)
        pause = min(pause * 1.25, 0.2)


def clean_env(home, **more):
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "XDG_CONFIG_HOME": str(home / "config"), "LC_ALL": "C.UTF-8"}
    for k in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS", "LSAN_OPTIONS"):
        if k in os.environ:
            env[k] = os.environ[k]
    env.update({k: str(v) for k, v in more.items()})
    return env


class Process:
    """A daemon of ours; its stderr goes to a file that a failing test prints."""

    def __init__(self, args, log, env):
        self.log = log
        self.args = [str(a) for a in args]
        self.out = open(str(log) + ".out", "ab")
        self.err = open(log, "ab")
        self.p = subprocess.Popen(self.args, stdin=subprocess.DEVNULL, stdout=self.out, stderr=self.err, env=env)

    def alive(self):
        return self.p.poll() is None

    def kill9(self):
        if self.alive():
            self.p.kill()
        self.p.wait()
        self.close()

    def stop(self, timeout=20):
        if self.alive():
            self.p.terminate()
        try:
            rc = self.p.wait(timeout * SLOW)
        except subprocess.TimeoutExpired:
            self.p.kill()
            self.p.wait()
            raise AssertionError(f"{self.args[0]} did not stop on SIGTERM")
        finally:
            self.close()
        return rc

    def close(self):
        self.out.close()
        self.err.close()

    def text(self):
        return Path(self.log).read_text(errors="replace")


class Hub:
    def __init__(self, world, name="hub", args=()):
        self.world, self.dir, self.args = world, world.dir / name, list(args)
        self.ports = None
        self.proc = None
        r = world.run(HUB, "init", "--data", self.dir, "--host", "localhost", "-o", "json")
        assert r.returncode == 0, r.stderr
        made = json.loads(r.stdout)
        self.token, self.ca_sha256 = made["admin_token"], made["ca_sha256"]
        self.ca = self.dir / "pki" / "ca.crt"

    def start(self):
        agent, api, enroll = self.ports or (0, 0, 0)
        log = self.world.dir / f"{self.dir.name}.log"
        out = Path(str(log) + ".out")
        seen = out.stat().st_size if out.exists() else 0
        self.proc = Process([HUB, "serve", "--data", self.dir, "--agent-listen", f"127.0.0.1:{agent}",
                             "--enroll-listen", f"127.0.0.1:{enroll}", "--api-listen", f"127.0.0.1:{api}",
                             "--advertise", "127.0.0.1", *self.args], log, clean_env(self.world.dir))
        self.world.procs.append(self.proc)

        def ready():
            if not self.proc.alive():
                raise AssertionError("the hub ended: " + self.proc.text()[-2000:])
            text = out.read_text()[seen:] if out.exists() else ""
            return re.search(r"^ready agent=\S+:(\d+) api=https://(\S+):(\d+)$", text, re.M)

        m = wait_for("the hub's ready line", ready)
        if not self.ports:
            said = wait_for("the enrolment port", lambda: re.search(r"enroll_port=(\d+)", self.proc.text()))
            enroll = int(said.group(1))
            self.ports = (int(m.group(1)), int(m.group(3)), enroll)
        self.url = f"https://127.0.0.1:{self.ports[1]}"
        return self

    def kill9(self):
        self.proc.kill9()

    def restart(self):
        self.start()

    def api(self, method, path, body=None, token=None, headers=None, raw=False, timeout=60):
        ctx = ssl.create_default_context(cafile=str(self.ca))
        c = http.client.HTTPSConnection("127.0.0.1", self.ports[1], context=ctx, timeout=timeout * SLOW)
        h = {"Authorization": f"Bearer {self.token if token is None else token}"}
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
            h["Content-Type"] = "application/json"
        h.update(headers or {})
        try:
            c.request(method, path if path.startswith("/") and path.startswith(("/api", "/healthz", "/readyz", "/version", "/metrics")) else "/api/v1" + path, body, h)
            r = c.getresponse()
            data = r.read()
        finally:
            c.close()
        if raw:
            return r.status, data, dict(r.getheaders())
        return r.status, (json.loads(data) if data else None)

    def join_token(self, **kw):
        args = []
        for k, v in kw.items():
            args += [f"--{k}", str(v)]
        r = self.cli("token", "create", *args)
        assert r.returncode == 0, r.stderr
        return r.stdout.strip()

    def cli(self, *args, stdin=None, timeout=120, env=None, text=True):
        e = clean_env(self.world.dir, PHOTON_HUB=self.url, PHOTON_TOKEN=self.token, PHOTON_CA=self.ca, **(env or {}))
        return subprocess.run([str(CLI), *map(str, args)], input=stdin, capture_output=True, text=text,
                              timeout=timeout * SLOW, env=e)

    def agents(self):
        status, doc = self.api("GET", "/agents")
        assert status == 200, doc
        return {a["name"]: a for a in doc["items"]}

    def run_json(self, run_id):
        status, doc = self.api("GET", f"/runs/{run_id}")
        assert status == 200, doc
        return doc

    def submit(self, workflow, **inputs):
        status, doc = self.api("POST", "/runs", {"workflow": workflow, "inputs": inputs})
        assert status == 201, doc
        return doc["id"]

    def wait_run(self, run_id, timeout=120, states=("succeeded", "failed", "cancelled")):
        def over():
            doc = self.run_json(run_id)
            return doc if doc["state"] in states else None
        return wait_for(f"run {run_id} to be {'/'.join(states)}", over, timeout)


class Agent:
    def __init__(self, world, hub, name, token=None, args=(), policy=None):
        self.world, self.hub, self.name, self.args = world, hub, name, list(args)
        self.dir = world.dir / f"agent-{name}"
        self.token = token
        if policy is not None:
            self.dir.mkdir(mode=0o700)
            f = self.dir / "policy.yaml"
            f.write_text(policy)
            f.chmod(0o600)
        self.proc = None

    def join(self, *more, timeout=60):
        return self.world.run(AGENT, "join", self.token, "--data", self.dir, "--name", self.name, *self.args, *more,
                              timeout=timeout)

    def start(self, online=True):
        token = ["--join", self.token] if self.token else []
        self.proc = Process([AGENT, "run", "--data", self.dir, "--name", self.name, *token, *self.args],
                            self.world.dir / f"agent-{self.name}.log", clean_env(self.world.dir))
        self.world.procs.append(self.proc)
        if online:
            self.wait_online()
        return self

    def wait_online(self):
        def up():
            if not self.proc.alive():
                raise AssertionError(f"agent {self.name} ended: " + self.proc.text()[-2000:])
            a = self.hub.agents().get(self.name)
            return a and a["state"] == "online"
        wait_for(f"agent {self.name} online", up)

    def kill9(self):
        self.proc.kill9()


class World(unittest.TestCase):
    """One scratch folder a test; what still runs at its end is killed, what failed prints its logs."""

    def setUp(self):
        self.dir = Path(tempfile.mkdtemp(prefix="photon-e2e-"))
        self.procs = []
        self.addCleanup(self._clean)

    def _clean(self):
        failed = any(e for _, e in getattr(self._outcome, "errors", []) or []) if hasattr(self, "_outcome") else False
        result = getattr(self._outcome, "result", None)
        if result is not None:
            failed = failed or any(t is self for t, _ in list(result.failures) + list(result.errors))
        for p in self.procs:
            if p.alive():
                p.p.kill()
                p.p.wait()
            if not p.out.closed:
                p.close()
        if failed or os.environ.get("E2E_KEEP"):
            for log in sorted(self.dir.glob("*.log")):
                print(f"--- {log.name}\n" + log.read_text(errors="replace")[-3000:])
            print(f"kept: {self.dir}")
        else:
            shutil.rmtree(self.dir, ignore_errors=True)

    def run_cmd(self, *args, **kw):
        return World.run_program(self, *args, **kw)

    def run_program(self, *args, timeout=60, stdin=None):
        return subprocess.run([str(a) for a in args], input=stdin, capture_output=True, text=True,
                              timeout=timeout * SLOW, env=clean_env(self.dir))

    def hub(self, *args, **kw):
        return Hub(_Ctx(self), args=args, **kw).start()

    def agent(self, hub, name, *args, **kw):
        token = kw.pop("token", None) or hub.join_token(uses=1)
        return Agent(_Ctx(self), hub, name, token=token, args=args, **kw).start()

    def red_and_blue(self, hub):
        """Two projects, and ann, who is an operator in red alone: her token."""
        for name in ("red", "blue"):
            self.assertEqual(hub.cli("project", "create", name).returncode, 0)
        self.assertEqual(hub.cli("user", "create", "ann").returncode, 0)
        self.assertEqual(hub.cli("user", "grant", "ann", "operator", "--project", "red").returncode, 0)
        return hub.cli("api-token", "create", "--name", "ann's", "--user", "ann", "--role", "admin").stdout.strip()

    def three(self, hub, *args):
        token = hub.join_token(uses=3)
        return [Agent(_Ctx(self), hub, n, token=token, args=args).start() for n in ("a1", "a2", "a3")]


class _Ctx:
    """What Hub and Agent need of a test, without unittest's own `run`."""

    def __init__(self, t):
        self.t, self.dir, self.procs = t, t.dir, t.procs

    def run(self, *args, **kw):
        return World.run_program(self.t, *args, **kw)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]
