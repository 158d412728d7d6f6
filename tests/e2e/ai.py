"""AI tools in tests: the real ones of tests/peers/installed where they are, the project's
stand-ins everywhere, a scrubbed environment with a scratch HOME and keys that are worth nothing,
and models on loopback."""
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import unittest
import urllib.request
from pathlib import Path

from harness import ROOT, SLOW

PEERS = ROOT / "tests" / "peers"
BIN = PEERS / "installed" / "bin"
KEY = "sk-worth-nothing"

# What each name on PATH is played by when the real one is not wanted.
STAND_INS = {"claude": "fake_claude.py", "codex": "fake_codex.py", "gemini": "fake_acp.py", "claude-agent-acp": "fake_acp.py",
             "codex-acp": "fake_acp.py", "cursor-agent": "fake_cursor.py", "fake-acp": "fake_acp.py"}


def missing(*names):
    return [n for n in names if not os.access(BIN / n, os.X_OK)]


def needs_peer(*names):
    """Skips a test, loudly, where the real program is not installed."""
    gone = missing(*names)
    return unittest.skipIf(gone, f"the real {', '.join(gone)} is not installed: run tests/peers/install.sh where npm works")


class Models:
    """tests/peers/models.py; ends with us, whatever happens: its stdin is our pipe."""

    def __init__(self, log):
        self.p = subprocess.Popen([sys.executable, PEERS / "models.py", "--log", str(log)], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, text=True)
        word, port = self.p.stdout.readline().split()
        assert word == "ready", word
        self.port = int(port)
        self.url = f"http://127.0.0.1:{port}"

    def requests(self, path=""):
        """Every request so far whose path holds `path`: {"method", "path", "headers", "body", "at"}."""
        with urllib.request.urlopen(self.url + "/_requests", timeout=10 * SLOW) as r:
            return [q for q in json.load(r) if path in q["path"]]

    def stop(self):
        self.p.stdin.close()
        self.p.wait(10 * SLOW)
        self.p.stdout.close()


def models(test):
    m = Models(test.dir / "models.log")
    test.addCleanup(m.stop)
    return m


def stand_in_bin(folder):
    """A folder for PATH in which every AI tool is a stand-in."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, script in STAND_INS.items():
        if not (folder / name).exists():
            (folder / name).symlink_to(PEERS / script)
    return folder


def some_of(folder, source, names):
    """A folder for PATH with these programs alone: an agent asks each that it finds for its version."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*names, "node"):
        if (source / name).exists() and not (folder / name).exists():
            (folder / name).symlink_to(source / name)
    return folder


def ai_env(home, m=None, real=True, only=(), **more):
    """The environment of an AI tool, and the settings files in `home` that point it at `m`."""
    home.mkdir(parents=True, exist_ok=True)
    url = m.url if m else "http://127.0.0.1:9"  # nobody is there
    (home / ".gemini").mkdir(exist_ok=True)
    (home / ".gemini" / "settings.json").write_text(json.dumps({
        "security": {"auth": {"selectedType": "gemini-api-key"}}, "privacy": {"usageStatisticsEnabled": False},
        "telemetry": {"enabled": False}, "general": {"disableAutoUpdate": True, "disableUpdateNag": True}}))
    (home / ".codex").mkdir(exist_ok=True)
    (home / ".codex" / "config.toml").write_text(f"""model = "stand-in"
model_provider = "stand-in"
[model_providers.stand-in]
name = "stand-in"
base_url = "{url}/v1"
env_key = "OPENAI_API_KEY"
wire_api = "responses"
request_max_retries = 1
stream_max_retries = 1
[features]
plugins = false
[analytics]
enabled = false
""")
    tmp = home / "tmp"
    tmp.mkdir(exist_ok=True)
    first = BIN if real else stand_in_bin(home / "stand-ins")
    if only:
        first = some_of(home / "programs", first, only)
    python = Path(sys.executable).parent  # the stand-ins' own
    env = {"PATH": f"{first}:{python}:/usr/local/bin:/usr/bin:/bin", "HOME": home, "LC_ALL": "C.UTF-8", "TMPDIR": tmp,
           "ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": KEY, "CLAUDE_CODE_MAX_RETRIES": "1", "DISABLE_TELEMETRY": "1",
           "DISABLE_ERROR_REPORTING": "1", "DISABLE_AUTOUPDATER": "1", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
           "GOOGLE_GEMINI_BASE_URL": url, "GEMINI_API_KEY": KEY, "NO_BROWSER": "1",
           "OPENAI_API_KEY": KEY, "CODEX_HOME": home / ".codex"}
    env.update(more)
    return {k: str(v) for k, v in env.items()}


def ai_policy(env, work, more=""):
    """An agent's policy under which its AI tools see exactly `env` and may write in `work`."""
    sets = json.dumps(env)
    return f"version: 1\nfiles: {{read: [/], write: [{json.dumps(str(work))}]}}\nenv: {{pass: [], set: {sets}}}\n{more}"


class Talk:
    """A conversation in JSON lines with a program; its whole session is killed at the end."""

    def __init__(self, args, env, cwd):
        self.p = subprocess.Popen([str(a) for a in args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                  env=env, cwd=cwd, start_new_session=True)
        self.seen, self.q = [], queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.p.stdout:
            self.q.put(line)
        self.q.put(None)

    def send(self, doc):
        self.p.stdin.write((doc if isinstance(doc, str) else json.dumps(doc)).encode() + b"\n")
        self.p.stdin.flush()

    def until(self, what, cond, timeout=60):
        """The first message that `cond` takes; all that came before are in .seen."""
        end = time.monotonic() + timeout * SLOW
        while True:
            try:
                line = self.q.get(timeout=max(0.01, end - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"waited {timeout * SLOW:.0f} s for: {what}; seen {self.seen[-5:]}") from None
            if line is None:
                raise AssertionError(f"it ended before: {what}; seen {self.seen[-5:]}")
            try:
                doc = json.loads(line)
            except ValueError:
                continue
            self.seen.append(doc)
            if cond(doc):
                return doc

    def end(self, timeout=20):
        """The polite end: no more input. Its exit status; None: it had to be killed."""
        try:
            self.p.stdin.close()
        except BrokenPipeError:
            pass
        try:
            return self.p.wait(timeout * SLOW)
        except subprocess.TimeoutExpired:
            return None
        finally:
            self.kill()

    def kill(self):
        try:
            os.killpg(self.p.pid, signal.SIGKILL)  # its own session: nobody else is in it
        except ProcessLookupError:
            pass
        self.p.wait()
        self.p.stdout.close()
