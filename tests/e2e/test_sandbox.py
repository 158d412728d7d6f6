"""What the programs of tools cannot do: escapes tried by real programs under real agents.

Each kind of agent is tried (root, root with a user for its calls, a user of its own), and a feature that this
kernel does not have is skipped aloud; what an agent does without it is tried by taking it away."""
import ctypes
import os
import secrets
import shutil
import socket
import subprocess
import sys
import textwrap
import unittest

from harness import AGENT, BUILD, Agent, Process, World, _Ctx, clean_env, wait_for

LAUNCHER = BUILD / "photon-launch"
NOBODY = 65534
ROOT = os.geteuid() == 0


def landlock_abi():
    """Landlock by its own system call, as the agent finds it."""
    return ctypes.CDLL(None, use_errno=True).syscall(444, None, 0, 1)


ABI = landlock_abi()
needs_landlock = unittest.skipIf(ABI < 1, "SKIPPED: this kernel has no Landlock")
needs_root = unittest.skipUnless(ROOT, "SKIPPED: only root can start programs as somebody else")

# What python runs for a probe: print one word about what happened.
PTRACE = """
import ctypes, os, sys
c = ctypes.CDLL(None, use_errno=True)
rc = c.ptrace(16, int(sys.argv[1]), 0, 0)
print("attached" if rc == 0 else os.strerror(ctypes.get_errno()))
"""
LIMITS = """
import resource, sys
pid, limit = int(sys.argv[1]), resource.RLIMIT_NOFILE
now = resource.getrlimit(limit)
try:
    resource.prlimit(pid, limit, now)
    print("changed")
except PermissionError:
    print("refused")
resource.setrlimit(limit, (now[0] - 1, now[1]))
print("own", resource.getrlimit(limit)[0] - now[0])
"""
KEYS = """
import ctypes, os, pty
a, b = pty.openpty()
c = ctypes.CDLL(None, use_errno=True)
for call in (0x5412, 0x541c, 0x1234567800005412):
    print("typed" if c.ioctl(b, ctypes.c_ulong(call), b"x") == 0 else os.strerror(ctypes.get_errno()))
"""
# Looks for a value in everything that /proc shows of other processes; says where, and how many let it look.
SEARCH = """
import os, sys
want, seen, hits = sys.argv[1][::-1].encode(), 0, []  # the wrong way round, or it would find itself
for pid in os.listdir("/proc"):
    if not pid.isdigit() or int(pid) == os.getpid():
        continue
    for name in ("environ", "cmdline", "fd/3", "fd/4"):
        try:
            data = open(f"/proc/{pid}/{name}", "rb").read(1 << 20) if name[:2] != "fd" or "memfd" in os.readlink(f"/proc/{pid}/{name}") else b""
        except OSError:
            continue
        seen += name == "cmdline"
        if want in data:
            hits.append(f"{pid}/{name}")
print("seen" if seen else "blind", *hits)
"""
FORKS = """
import os, signal, time
n = 0
try:
    while n < 400:
        if os.fork() == 0:
            signal.pause()
        n += 1
    print("unbounded")
except OSError:
    print("bounded", n)
"""


class Sandboxed(World):
    def setUp(self):
        super().setUp()
        os.chmod(self.dir, 0o755)
        self.inside, self.outside = self.dir / "inside", self.dir / "outside"
        for d in (self.inside, self.outside):
            d.mkdir()
            d.chmod(0o777)
        (self.outside / "file").write_text("precious")
        (self.outside / "file").chmod(0o666)

    def policy(self, more="", sandbox="mode: best-effort"):
        return (f"version: 1\nfiles:\n  read: [\"/\"]\n  write: [\"{self.inside}\"]\n  deny: []\n"
                f"sandbox: {{{sandbox}}}\n{more}")

    def start_agent(self, hub, name="a1", policy=None, program=AGENT, before=(), owner=None):
        """`before`: what runs the agent (setpriv ...); `owner`: of its data folder."""
        a = Agent(_Ctx(self), hub, name, token=hub.join_token(uses=1), policy=policy or self.policy())
        if owner is not None:
            for f in (a.dir, a.dir / "policy.yaml"):
                os.chown(f, owner, owner)
        a.proc = Process([*before, program, "run", "--data", a.dir, "--name", name, "--join", a.token],
                         self.dir / f"agent-{name}.log", clean_env(self.inside))
        self.procs.append(a.proc)
        a.wait_online()
        return a

    def copied(self, *programs):
        """The programs where another user finds them; without the ones not named."""
        folder = self.dir / "bin"
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
        for p in programs:
            shutil.copy(p, folder / p.name)
        return folder

    def sh(self, hub, script, **step):
        """Runs it as one step; (state, step)."""
        wf = {"name": "w", "steps": [{"id": "s", "run": "set +e\n" + textwrap.dedent(script), "cwd": str(self.inside), **step}]}
        doc = hub.wait_run(hub.submit(wf))
        return doc["steps"][0]

    def said(self, hub, script, **step):
        s = self.sh(hub, script, **step)
        self.assertEqual(s["state"], "succeeded", s)
        return s["outputs"]["stdout"].strip()

    def python(self, hub, source, *args):
        f = self.inside / "probe.py"
        f.write_text(source)
        f.chmod(0o644)
        return self.said(hub, f"{sys.executable if os.access(sys.executable, os.X_OK) and not self.other else '/usr/bin/python3'} {f} {' '.join(map(str, args))}")

    other = False  # calls run as somebody who cannot read root's home


class Escapes:
    """Tried with each kind of agent."""

    def begin(self, more="", sandbox="mode: best-effort"):
        raise NotImplementedError

    @needs_landlock
    def test_nothing_is_written_outside_of_the_roots(self):
        hub, _ = self.begin()
        out = self.said(hub, f"""
            echo yes > {self.inside}/made && echo inside
            echo no > {self.outside}/made || echo created-not
            echo no > {self.outside}/file || echo written-not
            rm {self.outside}/file || echo removed-not
            mv {self.outside}/file {self.inside}/ || echo moved-not
            mv {self.inside}/made {self.outside}/ || echo moved-not
            ln {self.outside}/file {self.inside}/hard || echo linked-not
            ln -s {self.outside} {self.inside}/soft; echo no > {self.inside}/soft/made || echo followed-not
            mkdir {self.outside}/sub || echo folder-not
            echo x > /dev/null && echo null
            """)
        self.assertEqual(out.split(), ["inside", "created-not", "written-not", "removed-not", "moved-not", "moved-not",
                                       "linked-not", "followed-not", "folder-not", "null"])
        self.assertEqual((self.outside / "file").read_text(), "precious")
        self.assertEqual(sorted(p.name for p in self.outside.iterdir()), ["file"])

    def test_the_agents_key_is_not_there(self):
        hub, a = self.begin()
        out = self.said(hub, f"""
            cat {a.dir}/agent.key && echo read
            cat {a.dir}/identity.json && echo read
            echo x > {a.dir}/policy.yaml && echo wrote
            ls {a.dir}
            cat /proc/{a.proc.p.pid}/root{a.dir}/agent.key && echo read
            cat /proc/{a.proc.p.pid}/cwd/x /proc/{a.proc.p.pid}/environ && echo read
            head -c1 /proc/{a.proc.p.pid}/mem && echo read
            readlink /proc/{a.proc.p.pid}/fd/1 && echo read
            umount {a.dir} && echo uncovered
            nsenter -t {a.proc.p.pid} -m true && echo entered
            unshare -Urm umount {a.dir} && echo uncovered
            true""")
        self.assertEqual(sorted(out.split()), ["scratch", "tools.d"], out)

    def test_the_agent_is_neither_traced_nor_ended(self):
        hub, a = self.begin()
        self.assertEqual(self.python(hub, PTRACE, a.proc.p.pid), "Operation not permitted")
        if ABI >= 6:
            self.said(hub, f"kill -9 {a.proc.p.pid} && echo killed; true")
        else:
            print("SKIPPED: this kernel's Landlock does not scope signals")
        self.assertTrue(a.proc.alive())
        self.assertEqual(self.said(hub, "echo on"), "on")

    @needs_landlock
    def test_a_calls_secrets_are_its_own(self):
        """In its environment and in a file in memory, which no other call of the same user can look into."""
        hub, _ = self.begin()
        value = "value-" + secrets.token_hex(12)
        self.assertEqual(hub.cli("secret", "set", "TOKEN", stdin=value).returncode, 0)
        has, go = self.inside / "has", self.inside / "go"
        script = (f'test "$(cat "$KEY")" = "$TOKEN" && echo ${{#TOKEN}} > {has}\n'
                  f'while [ ! -e {go} ]; do sleep 0.05; done')
        run = hub.submit({"name": "w", "steps": [{"id": "s", "run": script, "cwd": str(self.inside),
                                                  "secrets": ["TOKEN", {"name": "TOKEN", "as": "KEY", "file": True}]}]})
        wait_for("the call to have them", lambda: has.exists() and has.read_text() == f"{len(value)}\n")
        self.assertEqual(self.python(hub, SEARCH, value[::-1]), "seen")
        go.touch()
        self.assertEqual(hub.wait_run(run)["state"], "succeeded")

    def test_the_agents_limits_are_not_changed(self):
        """A limit of no CPU time would end it, and Landlock does not ask about limits."""
        hub, a = self.begin()
        self.assertEqual(self.python(hub, LIMITS, a.proc.p.pid).split(), ["refused", "own", "-1"])
        self.assertTrue(a.proc.alive())

    def test_no_keys_are_pressed_on_terminals(self):
        hub, _ = self.begin()
        self.assertEqual(self.python(hub, KEYS).splitlines(), ["Operation not permitted"] * 3)

    def test_no_privileges_no_cores_no_descriptors(self):
        hub, _ = self.begin()
        out = self.said(hub, """
            grep -E 'NoNewPrivs|^Seccomp:' /proc/self/status
            ulimit -c; ulimit -Hc
            ls /proc/self/fd""")
        self.assertEqual(out.split(), ["NoNewPrivs:", "1", "Seccomp:", "2", "0", "0", "0", "1", "2", "3"])

    def test_limits_hold(self):
        hub, _ = self.begin(sandbox="limits: {open-files: 20, file-size: 1MiB, address-space: 1GiB, cpu: 1s}")
        self.assertEqual(self.said(hub, "ulimit -n; ulimit -Hn").split(), ["20", "20"])
        s = self.sh(hub, f"head -c 2000000 /dev/zero > {self.inside}/big")
        self.assertNotEqual(s["state"], "succeeded")
        self.assertEqual((self.inside / "big").stat().st_size, 1 << 20)
        out = self.python(hub, "try:\n  bytearray(2 << 30); print('got')\nexcept MemoryError: print('refused')")
        self.assertEqual(out, "refused")
        s = self.sh(hub, "while :; do :; done")
        self.assertEqual((s["state"], s["error"]["code"]), ("failed", "killed_by_signal"), s)

    def test_ordinary_programs_do_not_notice(self):
        hub, _ = self.begin()
        out = self.said(hub, f"""
            set -e
            export HOME={self.inside}
            git init -q r && cd r && echo x > f && git add f && git -c user.name=a -c user.email=a@b commit -qm m
            git log --oneline | wc -l
            /usr/bin/python3 -c 'import subprocess, tempfile; subprocess.run(["true"], check=True); print("python")'
            /bin/sh -c 'sleep 0.01 & wait; echo shell'
            echo data > "$PHOTON_OUTPUT.x" && echo scratch""", env={"TMPDIR": str(self.inside)})
        self.assertEqual(out.split(), ["1", "python", "shell", "scratch"])

    def test_what_left_its_session_twice_is_ended_with_the_call(self):
        hub, _ = self.begin()
        pids = self.inside / "pids"
        script = f"setsid sh -c 'setsid sh -c \"echo \\$\\$ >> {pids}; exec sleep 1000\" & echo $$ >> {pids}; exec sleep 1000' & wait"
        run = hub.submit({"name": "w", "steps": [{"id": "s", "run": script, "cwd": str(self.inside)}]})
        wait_for("both to run", lambda: pids.exists() and len(pids.read_text().split()) == 2)
        self.assertEqual(hub.api("POST", f"/runs/{run}/cancel", {})[0] // 100, 2)
        hub.wait_run(run)
        for pid in pids.read_text().split():
            self.assertFalse(os.path.exists(f"/proc/{pid}"), pid)

    def test_what_left_its_session_ends_with_an_agent_that_is_killed(self):
        hub, a = self.begin()
        pids = self.inside / "pids"
        script = f"trap '' TERM; setsid sh -c 'trap \"\" TERM; echo $$ >> {pids}; sleep 1000; sleep 1000' & echo $$ >> {pids}; wait"
        hub.submit({"name": "w", "steps": [{"id": "s", "run": script, "cwd": str(self.inside)}]})
        wait_for("both to run", lambda: pids.exists() and len(pids.read_text().split()) == 2)
        a.proc.kill9()
        wait_for("both to be gone, though no agent has come again", lambda: not [p for p in pids.read_text().split() if lives(p)])


def lives(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rsplit(") ", 1)[1][0] != "Z"
    except OSError:
        return False


def has_cgroup():
    """May this test divide a cgroup v2, as the agent would?"""
    if not ROOT:
        return False
    for line in open("/proc/self/mountinfo"):
        if " - cgroup2 " in line:
            own = [x.strip()[3:] for x in open("/proc/self/cgroup") if x.startswith("0::")]
            where = line.split()[4] + own[0].rstrip("/") if own else None
            return bool(where) and os.access(where, os.W_OK)
    return False


DAEMON = """
import os, sys
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 3)
        open(sys.argv[1], "w").write(str(os.getpid()))
        os.execve("/bin/sleep", ["sleep", "1000"], {})
    os._exit(0)
os.wait()
"""


class ByRoot(Escapes, Sandboxed):
    """The agent is whoever runs the tests; root, usually."""

    def begin(self, more="", sandbox="mode: best-effort"):
        hub = self.hub()
        return hub, self.start_agent(hub, policy=self.policy(more, sandbox))

    @needs_landlock
    def test_a_machine_that_has_all_can_be_required_to(self):
        hub, a = self.begin(sandbox="mode: require")
        self.assertEqual(self.said(hub, "echo on"), "on")
        self.assertEqual(hub.agents()["a1"]["sandbox"]["mode"], "require")
        self.assertEqual(hub.agents()["a1"]["sandbox"]["lacks"], "")

    @unittest.skipIf(ABI < 4, "SKIPPED: this kernel's Landlock does not know the network")
    def test_the_network_is_closed_but_for_the_ports_named(self):
        hub, _ = self.begin(sandbox="network: none, tools: {echo: {mode: off}}")
        probe = ("import socket\ntry:\n  socket.create_connection(('127.0.0.1', %d), 5); print('open')\n"
                 "except PermissionError: print('closed')\nexcept OSError: print('reached')" % hub.ports[1])
        self.assertEqual(self.python(hub, probe), "closed")
        self.start_agent(hub, "a2", policy=self.policy(sandbox=f"network: [{hub.ports[1]}]"))
        f = self.inside / "probe.py"
        s = self.sh(hub, f"/usr/bin/python3 {f}", agent="a2")
        self.assertEqual(s["outputs"]["stdout"].strip(), "open", s)

    @unittest.skipIf(ABI < 6, "SKIPPED: this kernel's Landlock does not scope abstract sockets")
    def test_a_closed_network_closes_abstract_sockets(self):
        hub, _ = self.begin(sandbox="tools: {\"process.*\": {network: none}}")
        name = f"photon-test-{os.getpid()}"
        with socket.socket(socket.AF_UNIX) as s:
            s.bind("\0" + name)
            s.listen()
            probe = ("import socket\ns = socket.socket(socket.AF_UNIX)\ntry:\n  s.connect('\\0%s'); print('open')\n"
                     "except PermissionError: print('closed')" % name)
            self.assertEqual(self.python(hub, probe), "closed")
            self.start_agent(hub, "a2", policy=self.policy())
            self.assertEqual(self.sh(hub, f"/usr/bin/python3 {self.inside}/probe.py", agent="a2")["outputs"]["stdout"].strip(), "open")

    @unittest.skipUnless(has_cgroup(), "SKIPPED: no cgroup v2 that may be divided here")
    def test_a_daemon_without_any_mark_is_ended_with_its_call(self):
        hub, _ = self.begin()
        self.assertIn("cgroup", hub.agents()["a1"]["sandbox"]["has"])
        # Another call runs meanwhile, so that it cannot be told by being the only one.
        other = hub.submit({"name": "o", "steps": [{"id": "s", "run": f"touch {self.inside}/other; sleep 1000"}]})
        wait_for("the other call", lambda: (self.inside / "other").exists())
        pid = self.inside / "pid"
        self.python(hub, DAEMON, pid)
        number = int(pid.read_text())
        wait_for("the daemon to be gone", lambda: not os.path.exists(f"/proc/{number}"))
        self.assertEqual(hub.api("POST", f"/runs/{other}/cancel", {})[0] // 100, 2)
        hub.wait_run(other)

    @unittest.skipUnless(has_cgroup(), "SKIPPED: this machine gives its user no cgroup")
    def test_a_daemon_without_any_mark_ends_with_an_agent_that_is_killed(self):
        hub, a = self.begin()
        program, pid = self.inside / "daemon.py", self.inside / "pid"
        program.write_text(DAEMON)
        hub.submit({"name": "w", "steps": [{"id": "s", "run": f"{sys.executable} {program} {pid}; sleep 1000", "cwd": str(self.inside)}]})
        wait_for("the daemon", lambda: pid.exists() and pid.read_text() and lives(pid.read_text()))
        a.proc.kill9()
        wait_for("the daemon to be gone", lambda: not lives(pid.read_text()))

    def test_off_means_off(self):
        hub, a = self.begin(sandbox="mode: off")
        self.assertIn("NoNewPrivs:\t0", self.said(hub, "cat /proc/self/status"))
        self.assertEqual(hub.agents()["a1"]["sandbox"]["mode"], "off")

    def test_a_tool_may_have_rules_of_its_own(self):
        hub, _ = self.begin(sandbox=f"write: [\"{self.outside}\"], tools: {{\"process.*\": {{write: []}}}}")
        self.assertEqual(self.said(hub, f"echo x > {self.outside}/made || echo no"), "no" if ABI > 0 else "")

    def test_the_policy_is_not_changed_by_what_it_binds(self):
        hub = self.hub()
        elsewhere = self.inside / "policy.yaml"
        elsewhere.write_text(self.policy())
        elsewhere.chmod(0o600)
        a = Agent(_Ctx(self), hub, "a1", token=hub.join_token(uses=1), args=["--policy", str(elsewhere)])
        a.start()
        self.assertEqual(self.said(hub, f"echo x > {elsewhere} || echo no; mv {elsewhere} {self.inside}/y || echo no"),
                         "no\nno")
        self.assertEqual(elsewhere.read_text(), self.policy())

    def test_without_its_launcher_nothing_is_started(self):
        hub = self.hub()
        folder = self.copied(AGENT)
        self.start_agent(hub, program=folder / AGENT.name)
        s = self.sh(hub, f"touch {self.inside}/ran")
        self.assertEqual((s["state"], s["error"]["code"]), ("failed", "sandbox_unavailable"), s)
        self.assertIn("photon-launch", s["error"]["message"])
        self.assertFalse((self.inside / "ran").exists())

    def test_a_launcher_that_fails_is_not_taken_for_the_command(self):
        hub = self.hub()
        folder = self.copied(AGENT)
        for name, body in (("killed", "kill -9 $$"), ("ended", "exit 0"), ("other", "exit 127")):
            with self.subTest(name):
                fake = folder / "photon-launch"
                fake.write_text(f"#!/bin/sh\n{body}\n")
                fake.chmod(0o755)
                a = self.start_agent(hub, name, program=folder / AGENT.name)
                s = self.sh(hub, "true", agent=name)
                self.assertEqual((s["state"], s["error"]["code"]), ("failed", "sandbox_failed"), s)
                self.assertIsNone(s.get("exit_code"), s)
                a.kill9()

    def test_what_cannot_be_run_says_so_and_is_no_exit_status(self):
        hub, _ = self.begin()
        bad = self.inside / "noprogram"
        bad.write_bytes(b"\x00\x01\x02")
        bad.chmod(0o755)
        wf = {"name": "w", "steps": [{"id": "s", "uses": "process.exec", "with": {"argv": [str(bad)]}}]}
        s = hub.wait_run(hub.submit(wf))["steps"][0]
        self.assertEqual((s["state"], s["error"]["code"]), ("failed", "spawn_failed"), s)
        self.assertIn("no program", s["error"]["message"])

    def old_kernel(self, *numbers):
        """A program that makes these system calls unknown, as an older kernel would, and then runs the rest."""
        f = self.dir / "old.py"
        f.write_text(textwrap.dedent(f"""
            import ctypes, os, struct, sys
            code = [(0x20, 0, 0, 0)]
            numbers = {list(numbers)}
            for i, n in enumerate(numbers):
                code.append((0x15, len(numbers) - i, 0, n))
            code += [(0x06, 0, 0, 0x7fff0000), (0x06, 0, 0, 0x50000 | 38)]
            raw = b"".join(struct.pack("HBBI", *c) for c in code)
            buf = ctypes.create_string_buffer(raw, len(raw))
            prog = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(code), ctypes.addressof(buf)), 16)
            c = ctypes.CDLL(None, use_errno=True)
            assert c.prctl(38, 1, 0, 0, 0) == 0 and c.prctl(22, 2, prog, 0, 0) == 0, ctypes.get_errno()
            os.execv(sys.argv[1], sys.argv[1:])
            """))
        return [sys.executable, f]

    def test_an_older_kernel_is_said_and_require_refuses(self):
        hub = self.hub()
        old = self.old_kernel(444, 445, 446)
        a = self.start_agent(hub, "best", before=old)
        self.assertEqual(self.sh(hub, "echo on", agent="best")["outputs"]["stdout"], "on\n")
        said = hub.agents()["best"]["sandbox"]
        self.assertIn("no Landlock", said["lacks"])
        self.assertNotIn("landlock", said["has"])
        self.assertIn("no Landlock", hub.cli("agent", "show", "best").stdout)
        self.assertIn("no Landlock", self.run_cmd(*old, AGENT, "doctor", "--data", a.dir).stdout)
        joined = self.run_cmd(*old, AGENT, "join", hub.join_token(uses=1), "--data", self.dir / "late", "--name", "late").stdout
        self.assertIn("this machine lacks: no Landlock", joined)
        self.assertIn("programs run without it", joined)
        self.start_agent(hub, "must", policy=self.policy(sandbox="mode: require"), before=old)
        s = self.sh(hub, f"touch {self.inside}/ran", agent="must")
        self.assertEqual((s["state"], s["error"]["code"]), ("failed", "sandbox_unavailable"), s)
        self.assertIn("no Landlock", s["error"]["message"])
        self.assertFalse((self.inside / "ran").exists())

    def test_a_user_that_does_not_exist_keeps_the_agent_from_starting(self):
        hub = self.hub()
        a = Agent(_Ctx(self), hub, "a1", token=hub.join_token(uses=1), policy=self.policy(sandbox="user: nosuchuser"))
        r = a.join()
        a.proc = Process([AGENT, "run", "--data", a.dir], self.dir / "agent-a1.log", clean_env(self.dir))
        self.procs.append(a.proc)
        self.assertNotEqual(a.proc.p.wait(20), 0, r)
        self.assertIn("nosuchuser", a.proc.text())


@needs_root
class ByRootAsNobody(Escapes, Sandboxed):
    """The agent is root, its calls are not."""
    other = True

    def begin(self, more="", sandbox="mode: best-effort"):
        hub = self.hub()
        return hub, self.start_agent(hub, policy=self.policy(more, sandbox + ", user: nobody"))

    def test_calls_are_that_user_and_never_root_again(self):
        hub, _ = self.begin()
        program = self.inside / "id"
        shutil.copy("/usr/bin/id", program)
        program.chmod(0o4755)
        self.assertEqual(self.said(hub, f"id -u; {program} -u; grep CapEff /proc/self/status").split(),
                         [str(NOBODY), str(NOBODY), "CapEff:", "0000000000000000"])

    def test_a_fork_bomb_ends_at_its_limit(self):
        hub, _ = self.begin(sandbox="limits: {processes: 60}")
        out = self.python(hub, FORKS)
        self.assertTrue(out.startswith("bounded"), out)


@needs_root
class ByNobody(Escapes, Sandboxed):
    """The agent is an ordinary user, as on a developer's machine."""
    other = True

    def begin(self, more="", sandbox="mode: best-effort"):
        hub = self.hub()
        folder = self.copied(AGENT, LAUNCHER)
        who = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        log = self.dir / "agent-a1.log"
        log.touch()
        return hub, self.start_agent(hub, policy=self.policy(more, sandbox), program=folder / AGENT.name, before=who,
                                     owner=NOBODY)

    def test_a_fork_bomb_ends_at_its_limit(self):
        hub, _ = self.begin(sandbox="limits: {processes: 60}")
        out = self.python(hub, FORKS)
        self.assertTrue(out.startswith("bounded"), out)


if __name__ == "__main__":
    unittest.main()
