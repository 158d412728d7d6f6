"""make install puts everything in place, what it installed runs, and nothing of the owner's is overwritten."""
import json
import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("BUILD", ROOT / "build"))


def make(*args):
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    r = subprocess.run(["make", "--no-print-directory", f"BUILD={os.path.relpath(BUILD, ROOT)}", *args], cwd=ROOT, env=env,
                       capture_output=True, text=True)
    assert r.returncode == 0, r.stdout + r.stderr
    return r.stdout


def keys(yaml):
    """Options that a skeleton shows, set or commented out."""
    return set(re.findall(r"^#?([a-z][a-z-]*):", yaml, re.M))


def flags(help_text):
    """{name: default or None} of --help."""
    out = {}
    for line in help_text.splitlines():
        m = re.match(r"\s+(?:-\w, )?--([a-z-]+)", line)
        if m:
            d = re.search(r"\(default: (.*?)\) ?(?:\[|$)", line)
            out[m.group(1)] = d.group(1) if d else None
    return out


class Install(unittest.TestCase):
    def setUp(self):
        self.dir = Path(tempfile.mkdtemp(prefix="photon-install-"))
        self.addCleanup(shutil.rmtree, self.dir)

    def run_in(self, *args, rc=0, **env):
        r = subprocess.run([str(a) for a in args], capture_output=True, text=True, timeout=60,
                           env={"PATH": "/usr/bin:/bin", "HOME": str(self.dir), **env})
        self.assertEqual(r.returncode, rc, r.stdout + r.stderr)
        return r

    def test_everything_is_in_place_runs_and_goes_away_again(self):
        make("install", f"DESTDIR={self.dir}", "PREFIX=/opt/photon")
        p = self.dir / "opt/photon"
        for name in ("photon", "photon-hub", "photon-agent"):
            self.assertRegex(self.run_in(p / "bin" / name, "version").stdout, rf"^{name} \d+\.\d+")
        for f in ("lib/systemd/system/photon-hub.service", "lib/systemd/system/photon-agent.service",
                  "lib/systemd/user/photon-agent.service", "lib/sysusers.d/photon.conf", "lib/tmpfiles.d/photon.conf",
                  "share/doc/photon/README.md", "share/doc/photon/OPERATING.md", "share/doc/photon/SECURITY.md",
                  "share/doc/photon/PROTOCOL.md", "share/doc/photon/examples/demo.yaml",
                  "share/bash-completion/completions/photon", "share/zsh/vendor-completions/_photon",
                  "share/fish/vendor_completions.d/photon.fish"):
            with self.subTest(file=f):
                self.assertGreater((p / f).stat().st_size, 0)
                self.assertEqual((p / f).stat().st_mode & 0o777, 0o644)
        unit = (p / "lib/systemd/system/photon-hub.service").read_text()
        self.assertIn("ExecStart=/opt/photon/bin/photon-hub serve", unit)
        self.assertNotIn("/usr/bin/", unit)
        self.run_in("bash", "-n", p / "share/bash-completion/completions/photon")
        made = json.loads(self.run_in(p / "bin/photon-hub", "init", "--data", self.dir / "hub", "-o", "json").stdout)
        self.assertRegex(made["ca_sha256"], "^[0-9a-f]{64}$")

        etc = self.dir / "etc/photon"
        (etc / "hub.yaml").write_text("host: [mine.example]\n")
        self.assertIn("kept", make("install", f"DESTDIR={self.dir}", "PREFIX=/opt/photon"))
        self.assertEqual((etc / "hub.yaml").read_text(), "host: [mine.example]\n")

        make("uninstall", f"DESTDIR={self.dir}", "PREFIX=/opt/photon")
        self.assertEqual([str(f) for f in p.rglob("*") if not f.is_dir()], [])
        self.assertTrue((etc / "hub.yaml").exists())

    def test_another_sysconfdir_reaches_the_units(self):
        make("install", f"DESTDIR={self.dir}", "PREFIX=/usr/local", "SYSCONFDIR=/usr/local/etc")
        unit = (self.dir / "usr/local/lib/systemd/system/photon-hub.service").read_text()
        self.assertIn("--config /usr/local/etc/photon/hub.yaml", unit)
        self.assertIn("\npolicy: /usr/local/etc/photon/policy.yaml\n", (self.dir / "usr/local/etc/photon/agent.yaml").read_text())

    def test_the_skeletons_name_every_option_with_its_default(self):
        for program, cmd, name, aside in (("photon-hub", ["serve", "--help"], "hub.yaml", {"config"}),
                                          ("photon-agent", ["--help"], "agent.yaml",
                                           {"config", "join", "token-file", "replace", "timeout", "output"})):
            text = (ROOT / "deploy/etc" / name).read_text()
            known = flags(self.run_in(BUILD / program, *cmd).stdout)
            with self.subTest(file=name):
                sections = {"notices", "ask-first"} if name == "hub.yaml" else set()  # these are no flags
                self.assertEqual(keys(text), set(known) - aside | sections)
                for key, value in re.findall(r"^#([a-z][a-z-]*): (\S+)$", text, re.M):
                    if known[key] and "default" not in known[key] and " " not in known[key]:
                        self.assertEqual(value, known[key], key)

    def test_the_skeletons_are_taken_with_every_comment_opened(self):
        hub, agent = (re.sub(r"(?m)^#([a-z][a-z-]*:)", r"\1", (ROOT / "deploy/etc" / n).read_text()) for n in ("hub.yaml", "agent.yaml"))
        (self.dir / "hub.yaml").write_text(re.sub(r"(?m)^log-level: .*$", "log-level: no-such", hub))
        r = self.run_in(BUILD / "photon-hub", "serve", "--data", self.dir / "h", "--config", self.dir / "hub.yaml", rc=64)
        self.assertIn('log-level is "no-such"', r.stderr)  # all else was accepted
        agent = agent.replace("/etc/photon/policy.yaml", str(ROOT / "deploy/etc/policy.yaml"))
        (self.dir / "agent.yaml").write_text(agent)
        r = self.run_in(BUILD / "photon-agent", "run", "--data", self.dir / "a", "--config", self.dir / "agent.yaml", rc=4)
        self.assertIn("has not joined a hub yet", r.stderr)

    def test_the_servers_policy_is_the_agents_default(self):
        self.run_in(BUILD / "photon-agent", "run", "--data", self.dir / "a", rc=4)
        self.assertEqual((self.dir / "a/policy.yaml").read_text(), (ROOT / "deploy/etc/policy.yaml").read_text())


if __name__ == "__main__":
    unittest.main()
