"""README's chapter on two machines, command by command as it stands there.

A machine here is a network namespace and a mount namespace: its own interfaces, its own
/etc, /usr, /var, /srv, /root (overlays on this one's; nothing reaches the real ones), /tmp
and /run. `make install PREFIX=/usr` is the real one. sudo and systemctl are stand-ins (no
systemd runs here): systemctl starts what the installed unit's ExecStart says, as its User,
with its state folder, and waits for READY=1."""
import os
import re
import shutil
import signal
import subprocess
import tempfile
import unittest
from pathlib import Path

from harness import BUILD, ROOT, SLOW, wait_for

HUB_ADDRESS, AGENT_ADDRESS = "192.0.2.10", "198.51.100.2"  # for documentation, RFC 5737; here they exist in namespaces only

SUDO = '#!/bin/sh\nexec env HOME=/root "$@"\n'

SYSTEMCTL = r'''#!/usr/bin/env python3
"""enable --now, start, stop, restart of one unit, and daemon-reload."""
import os, pwd, re, shutil, signal, socket, subprocess, sys, time
args = [a for a in sys.argv[1:] if not a.startswith("-")]
user = "--user" in sys.argv
if args == ["daemon-reload"]:
    sys.exit(0)
verb, name = args
folder = "/usr/lib/systemd/user" if user else "/usr/lib/systemd/system"
text = open(f"{folder}/{name}.service").read()
s = {}
for line in text[text.index("[Service]"):].splitlines():
    k, eq, v = line.partition("=")
    if eq and k[0].isalpha() and k not in s:
        s[k] = v
run = f"/run/user/{os.getuid()}" if user else "/run"
pidfile, creds = f"{run}/{name}.pid", f"{run}/credentials-{name}"
if verb in ("stop", "restart") and os.path.exists(pidfile):
    pid = int(open(pidfile).read())
    os.kill(pid, signal.SIGTERM)
    while os.path.exists(f"/proc/{pid}") and open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] != "Z":
        time.sleep(0.02)
    os.unlink(pidfile)
if verb == "stop":
    sys.exit(0)
account = pwd.getpwnam(s["User"]) if "User" in s else pwd.getpwuid(os.getuid())
env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": account.pw_dir, "USER": account.pw_name,
       "LANG": "C.UTF-8"}
if "StateDirectory" in s:
    state = "/var/lib/" + s["StateDirectory"]
    os.makedirs(state, exist_ok=True)
    for top, dirs, files in os.walk(state):
        for f in [top] + [os.path.join(top, f) for f in files]:
            os.chown(f, account.pw_uid, account.pw_gid)
    os.chmod(state, int(s["StateDirectoryMode"], 8))
if "LoadCredential" in s:
    cred, _, source = s["LoadCredential"].partition(":")
    os.makedirs(creds, exist_ok=True)
    data = open(source).read() if os.path.exists(source) else s["SetCredential"].partition(":")[2].replace("\\n", "\n")
    with open(f"{creds}/{cred}", "w") as f:
        f.write(data)
    for f in (creds, f"{creds}/{cred}"):
        os.chown(f, account.pw_uid, account.pw_gid)
        os.chmod(f, 0o500 if f == creds else 0o400)
argv = s["ExecStart"].replace("%d", creds).split()
sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
path = f"{run}/notify-{name}"
if os.path.exists(path):
    os.unlink(path)
sock.bind(path)
os.chmod(path, 0o777)
sock.settimeout(60)
env["NOTIFY_SOCKET"] = path
log = open(f"{run if user else '/var/log'}/{name}.log", "ab")
def become():
    os.umask(int(s.get("UMask", "0022"), 8))
    if os.getuid() == 0:
        os.setgroups([]); os.setgid(account.pw_gid); os.setuid(account.pw_uid)
p = subprocess.Popen(argv, cwd=s.get("WorkingDirectory", "/").replace("%h", account.pw_dir), env=env, stdin=subprocess.DEVNULL,
                     stdout=log, stderr=log, preexec_fn=become, start_new_session=True)
open(pidfile, "w").write(str(p.pid))
while b"READY=1" not in sock.recv(4096):
    if p.poll() is not None:
        sys.exit(f"{name} ended with status {p.returncode}")
'''


class Machine:
    """A shell that lives in the namespaces; everything else enters them by its pid."""

    def __init__(self, test, name, address):
        self.name, self.dir, self.vars = name, test.dir / name, {}
        self.dir.mkdir()
        # On a tmpfs: where / is an overlay itself (containers), another one cannot be written there.
        mounts = [f"mount -t tmpfs none {self.dir}", f"mkdir {self.dir}/tree", f"mount --bind {ROOT} {self.dir}/tree"]
        for d in ("etc", "usr", "var", "srv", "home"):
            up, work = self.dir / f"{d}.up", self.dir / f"{d}.work"
            mounts.append(f"mkdir {up} {work}")
            mounts.append(f"mount -t overlay overlay -o lowerdir=/{d},upperdir={up},workdir={work} /{d}")
        script = "; ".join(["set -e", *mounts, "mount -t tmpfs -o mode=0700 none /root", "mount -t tmpfs -o mode=0755 none /run",
                            f"mkdir -p {ROOT}", f"mount --bind {self.dir}/tree {ROOT}",  # also where the clone lies below one of these
                            "mkdir -p /run/systemd/system", "ip link set lo up", f"hostname {name}", "echo up", "exec sleep infinity"])
        self.p = subprocess.Popen(["unshare", "--mount", "--propagation", "private", "--net", "--uts", "--pid", "--fork", "--mount-proc",
                                   "--kill-child", "sh", "-c", script],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        test.addCleanup(self.end)
        if self.p.stdout.readline() != "up\n":
            raise unittest.SkipTest("no namespaces or overlays here: " + self.p.stderr.read())
        self.init = int(Path(f"/proc/{self.p.pid}/task/{self.p.pid}/children").read_text().split()[0])
        self.put("/usr/local/bin/sudo", SUDO)
        self.put("/usr/local/bin/systemctl", SYSTEMCTL)

    def end(self):
        self.p.kill()  # and with it all that runs in its namespaces
        self.p.wait()
        self.p.stdout.close(), self.p.stderr.close()

    def args(self, user=None):
        a = ["nsenter", f"--target={self.init}", "--mount", "--net", "--uts", "--pid"]
        return a + (["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"] if user else [])

    def put(self, path, text):
        subprocess.run(self.args() + ["sh", "-c", f"cat > {path}; chmod 755 {path}"], input=text, text=True, check=True)

    def env(self, home="/root"):
        return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": home, "LANG": "C.UTF-8"}

    def sh(self, script, stdin="", check=True, timeout=120, user=None):
        home = f"/home/{user}" if user else "/root"
        r = subprocess.run(self.args(user) + ["sh", "-ec", "cd \"$0\"; " + script, home if user else str(ROOT)], input=stdin,
                           capture_output=True, text=True, env=self.env(home), timeout=timeout * SLOW)
        if check and r.returncode:
            raise AssertionError(f"on {self.name}: {script}\nstatus {r.returncode}\n{r.stdout}{r.stderr}")
        return r

    def start(self, script):
        return subprocess.Popen(self.args() + ["sh", "-ec", script], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True, env=self.env())

    def log(self, unit):
        return self.sh(f"cat /var/log/{unit}.log /run/user/*/{unit}.log 2>/dev/null", check=False).stdout


def readme_blocks():
    """[(machine, {option: value}, script)] of README.md."""
    text = (ROOT / "README.md").read_text()
    out = []
    for head, script in re.findall(r"<!-- on: (.*?) -->\n```sh\n(.*?)```", text, re.S):
        words = [w.strip() for w in head.split(",")]
        out.append((words[0], dict(w.partition(":")[::2] for w in words[1:]), script))
    return out


class TwoMachines(unittest.TestCase):
    def setUp(self):
        if os.getuid() != 0:
            self.skipTest("two machines are emulated with namespaces, which needs root")
        for tool in ("ip", "unshare", "nsenter", "setpriv", "systemd-sysusers", "systemd-tmpfiles"):
            if not shutil.which(tool):
                self.skipTest(f"no {tool} here (Debian packages iproute2, util-linux, systemd)")
        self.assertEqual(BUILD.resolve().parent, ROOT, "make install takes what stands in the tree")
        self.dir = Path(tempfile.mkdtemp(prefix="photon-two-"))
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        self.hub, self.far = Machine(self, "hub", HUB_ADDRESS), Machine(self, "far", AGENT_ADDRESS)
        self.addCleanup(self.show_logs)  # before the machines end
        # One cable, and each end knows only the other's address.
        subprocess.run(["ip", "link", "add", "eth0", "netns", str(self.hub.init), "type", "veth", "peer", "name", "eth0", "netns",
                        str(self.far.init)], check=True)
        for m, here, there in ((self.hub, HUB_ADDRESS, AGENT_ADDRESS), (self.far, AGENT_ADDRESS, HUB_ADDRESS)):
            m.sh(f"ip addr add {here}/32 dev eth0; ip link set eth0 up; ip route add {there}/32 dev eth0")
        self.said = {}

    def show_logs(self):
        result = self._outcome.result
        failed = any(t is self for t, _ in list(result.failures) + list(result.errors))
        if failed or any(e for _, e in getattr(self._outcome, "errors", None) or []) or not self._outcome.success:
            for m, unit in ((self.hub, "photon-hub"), (self.far, "photon-agent")):
                print(f"--- {unit}\n{m.log(unit)[-4000:]}")

    def remember(self, text):
        """The values that later commands have placeholders for."""
        for name, pattern in (("CA_SHA256", r"CA \(SHA-256\)\s+([0-9a-f]{64})"), ("ADMIN_TOKEN", r"(pat_\S+)"), ("TOKEN", r"(pj1\.\S+)"),
                              ("RUN", r"\b([0-9a-z]{26})\b")):
            m = re.search(pattern, text)
            if m:
                self.said[name] = m.group(1)

    def follow_readme(self, agent_kind):
        """Every block; of the two ways to run an agent, agent_kind. Returns the output of each."""
        outputs = []
        for on, opt, script in readme_blocks():
            machines = {"both": [self.hub, self.far], "hub": [self.hub], agent_kind: [self.far]}.get(on, [])
            if "built" in opt:
                continue
            for name, value in self.said.items():
                script = re.sub(rf"\b(?<!_){name}\b", lambda _: value, script)
            stdin = self.said[opt["input"].strip()] + "\n" if "input" in opt else ""
            for m in machines:
                user = "dev" if on == "laptop" else None
                if "make" not in script and not user:
                    script = "cd /root\n" + script
                r = m.sh(script.replace("make install", f"make install BUILD={os.path.relpath(BUILD, ROOT)}"), stdin, user=user)
                outputs.append(r.stdout + r.stderr)
                self.remember(r.stdout + r.stderr)
        return outputs

    def online(self):
        return len(re.findall(r'"state":\s*"online"', self.hub.sh("photon agents -o json").stdout))

    def check_what_readme_promises(self, outputs):
        text = "\n".join(outputs)
        self.assertIn("hello there, this is far", text)
        self.assertRegex(text, r"greeted at \d\d:\d\d:\d\d")
        self.assertIn("it ended with status 2: 2 means cancelled", text)
        # What was cancelled is gone from the agent, and the agent listens nowhere: it dials out only.
        wait_for("the cancelled command's end", lambda: self.far.sh("pgrep -f '[s]eq 1000'", check=False).returncode == 1)
        self.assertEqual(self.far.sh("ss -Hltun").stdout, "")
        self.assertNotIn(self.said["ADMIN_TOKEN"], self.hub.log("photon-hub"))
        self.assertNotIn(self.said["TOKEN"], self.far.log("photon-agent") + self.hub.log("photon-hub"))

    def test_a_developers_machine(self):
        self.far.sh("useradd --create-home dev; install -d -m 700 -o dev -g dev /run/user/$(id -u dev)")
        outputs = self.follow_readme("laptop")
        self.check_what_readme_promises(outputs)
        self.assertIn("What the hub may do on this machine (/home/dev/.local/state/photon-agent/policy.yaml)", "\n".join(outputs))
        self.assertEqual(self.hub.sh("photon exec -- sh -c 'id -un; pwd'").stdout, "dev\n/home/dev\n")
        self.assertRegex(self.far.sh("photon-agent doctor", user="dev").stdout, r"ok +hub +the running agent is connected to")
        self.assertNotIn("connected again", self.hub.log("photon-hub"))  # looking must not disturb

    def test_a_server_and_a_cut_cable(self):
        self.check_what_readme_promises(self.follow_readme("server"))
        # The agent is a user of its own: its calls cannot rewrite the policy they are under.
        r = self.hub.sh("photon exec -- sh -c 'id -un; echo x >> /etc/photon/policy.yaml'", check=False)
        self.assertEqual(r.stdout, "photon-agent\n")
        self.assertNotEqual(r.returncode, 0)
        # The token is not needed any more.
        self.far.sh("rm /etc/photon/join.token; systemctl restart photon-agent")
        wait_for("the agent after its restart", lambda: self.online() == 1)
        self.cut_the_cable_while_a_step_runs()

    def cut_the_cable_while_a_step_runs(self):
        """What the step writes while the link is down arrives after it is up: once, in order, byte-exact."""
        self.hub.sh("echo 'heartbeat: 500ms' > /etc/photon/hub.yaml; systemctl restart photon-hub")
        wait_for("the agent after the hub's restart", lambda: self.online() == 1)
        self.far.sh("mkfifo -m 666 /srv/photon-agent/go")
        self.hub.sh("cat > /root/cut.yaml <<'END'\nname: cut\nsteps:\n  - id: write\n    effect: at-most-once\n    run: |\n"
                    "      echo begin\n      read word < /srv/photon-agent/go\n      seq 200000\n      echo \"$word\"\n"
                    "      echo done > /srv/photon-agent/done\nEND")
        run = self.hub.sh("photon run /root/cut.yaml --detach").stdout + ""
        run = re.search(r"\b[0-9a-z]{26}\b", run).group(0)
        wait_for("the step's first line at the hub", lambda: self.hub.sh(f"photon logs {run} write", check=False).stdout == "begin\n")
        self.far.sh("ip link set eth0 down")
        self.far.sh("echo end > /srv/photon-agent/go")
        wait_for("the step's end on its machine", lambda: self.far.sh("cat /srv/photon-agent/done", check=False).stdout == "done\n")
        wait_for("the hub to give the agent up", lambda: self.online() == 0)
        self.assertRegex(self.hub.sh(f"photon run show {run} -o json").stdout, r'"state":\s*"running"')
        self.assertEqual(self.hub.sh(f"photon logs {run} write").stdout, "begin\n")
        self.far.sh(f"ip link set eth0 up; ip route replace {HUB_ADDRESS}/32 dev eth0")
        self.hub.sh(f"ip route replace {AGENT_ADDRESS}/32 dev eth0")
        self.hub.sh(f"photon run watch {run}", timeout=180)
        self.assertEqual(self.hub.sh(f"photon logs {run} write").stdout,
                         "begin\n" + "".join(f"{i}\n" for i in range(1, 200001)) + "end\n")
        self.assertIn('"attempt":1', re.sub(r"\s", "", self.hub.sh(f"photon run show {run} -o json").stdout))


if __name__ == "__main__":
    unittest.main()
