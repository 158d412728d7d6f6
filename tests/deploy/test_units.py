"""The systemd units hold what they promise: systemd itself checks their syntax and scores
their sandbox, and no lock of theirs can go missing without a test that fails."""
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
UNITS = ROOT / "deploy" / "systemd"

# Exposure from 0 (sealed) to 10 (open), as `systemd-analyze security` counts it.
EXPOSURE = {"photon-hub.service": 1.5, "photon-agent.service": 3.2}

# What must stand there whatever else the score makes up for. None: any value.
LOCKS = {
    "photon-hub.service": {
        "Type": "notify", "User": "photon-hub", "StateDirectoryMode": "0700", "ProtectSystem": "strict", "ProtectHome": "yes",
        "PrivateTmp": "yes", "PrivateDevices": "yes", "PrivateUsers": "yes", "NoNewPrivileges": "yes", "CapabilityBoundingSet": "",
        "AmbientCapabilities": "", "MemoryDenyWriteExecute": "yes", "RestrictNamespaces": "yes", "RestrictSUIDSGID": "yes",
        "LockPersonality": "yes", "ProtectKernelTunables": "yes", "ProtectControlGroups": "yes", "UMask": "0077",
        "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX AF_NETLINK", "SystemCallArchitectures": "native", "KillMode": "mixed",
        "Restart": "on-failure", "TimeoutStopSec": None,
    },
    "photon-agent.service": {
        "Type": "notify", "User": "photon-agent", "StateDirectoryMode": "0700", "ProtectSystem": "strict", "ProtectHome": "yes",
        "PrivateTmp": "yes", "PrivateDevices": "yes", "NoNewPrivileges": "yes", "CapabilityBoundingSet": "", "AmbientCapabilities": "",
        "RestrictSUIDSGID": "yes", "ProtectKernelTunables": "yes", "Delegate": "memory pids", "OOMPolicy": "continue",
        "KillMode": "mixed", "LoadCredential": "join.token:/etc/photon/join.token", "Restart": "on-failure", "TimeoutStopSec": None,
    },
    "photon-agent-user.service": {
        "Type": "notify", "KillMode": "mixed", "OOMPolicy": "continue", "Restart": "on-failure", "TimeoutStopSec": None,
    },
}


def settings(text):
    """The [Service] settings; a setting that is given twice keeps its values apart by a newline."""
    out, section = {}, ""
    for line in text.splitlines():
        line = line.strip()
        if line.startswith("["):
            section = line
        elif section == "[Service]" and line and line[0] not in "#;":
            k, _, v = line.partition("=")
            out[k] = out[k] + "\n" + v if k in out else v
    return out


def missing_locks(name, text):
    s = settings(text)
    return [k for k, v in LOCKS[name].items() if k not in s or (v is not None and s[k] != v)]


def exposure(path):
    r = subprocess.run(["systemd-analyze", "security", "--offline=true", "--no-pager", str(path)], capture_output=True, text=True)
    m = re.search(r"Overall exposure level for \S+: ([0-9.]+)", r.stdout)
    assert m, r.stdout + r.stderr
    return float(m.group(1))


class Units(unittest.TestCase):
    def setUp(self):
        self.dir = Path(tempfile.mkdtemp(prefix="photon-units-"))
        self.addCleanup(shutil.rmtree, self.dir)

    def need_systemd(self):
        if not shutil.which("systemd-analyze"):
            self.skipTest("no systemd-analyze here (Debian package systemd)")

    def loosened(self, name, drop):
        """The unit without the lines that set `drop`, in the scratch folder."""
        text = (UNITS / name).read_text()
        out = self.dir / name
        out.write_text("".join(l for l in text.splitlines(True) if not l.startswith(drop + "=")))
        return out

    def verify(self, text, name, user=False):
        """systemd's own complaints, with programs that are there."""
        program = self.dir / "photon"
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        unit = self.dir / name
        unit.write_text(re.sub(r"/usr/bin/photon-\w+", str(program), text))
        env = {"PATH": "/usr/bin:/bin", "XDG_RUNTIME_DIR": str(self.dir), "HOME": str(self.dir)}
        r = subprocess.run(["systemd-analyze", *(["--user"] if user else []), "verify", "--man=no", str(unit)],
                           capture_output=True, text=True, env=env)
        return "".join(l for l in (r.stdout + r.stderr).splitlines(True) if name in l or "photon" in l), r.returncode

    def test_systemd_accepts_every_unit(self):
        self.need_systemd()
        for name in LOCKS:
            with self.subTest(unit=name):
                said, rc = self.verify((UNITS / name).read_text(), name, user="user" in name)
                self.assertEqual((said, rc), ("", 0))

    def test_the_check_sees_a_mistake(self):
        self.need_systemd()
        said, _ = self.verify((UNITS / "photon-hub.service").read_text().replace("[Install]", "Protectsystem=yes\n[Install]"),
                              "photon-hub.service")
        self.assertIn("Protectsystem", said)

    def test_exposure_stays_low(self):
        self.need_systemd()
        for name, most in EXPOSURE.items():
            with self.subTest(unit=name):
                self.assertLessEqual(exposure(UNITS / name), most)

    def test_a_loosened_unit_is_noticed(self):
        """Every lock, taken out alone, makes one of the two checks fail; and so does the whole sandbox."""
        for name, locks in LOCKS.items():
            for lock in locks:
                with self.subTest(unit=name, lock=lock):
                    self.assertIn(lock, missing_locks(name, self.loosened(name, lock).read_text()))
        self.need_systemd()
        for name, most in EXPOSURE.items():
            bare = self.dir / name
            bare.write_text("[Service]\nUser=x\nExecStart=/bin/true\n")
            self.assertGreater(exposure(bare), most)
            for lock in ("SystemCallFilter", "ProtectSystem", "CapabilityBoundingSet"):
                with self.subTest(unit=name, lock=lock):
                    self.assertGreater(exposure(self.loosened(name, lock)), exposure(UNITS / name))

    def test_no_lock_is_missing(self):
        for name in LOCKS:
            with self.subTest(unit=name):
                self.assertEqual(missing_locks(name, (UNITS / name).read_text()), [])

    def test_users_and_folders_of_the_units_are_made(self):
        users = set(re.findall(r"^u (\S+)", (UNITS / "photon.sysusers").read_text(), re.M))
        self.assertEqual(users, {"photon-hub", "photon-agent"})
        folders = re.findall(r"^d (\S+)", (UNITS / "photon.tmpfiles").read_text(), re.M)
        agent = settings((UNITS / "photon-agent.service").read_text())
        self.assertIn(agent["WorkingDirectory"], folders)
        self.assertEqual(agent["ReadWritePaths"], agent["WorkingDirectory"])
        for name in ("photon-hub.service", "photon-agent.service"):
            self.assertIn(settings((UNITS / name).read_text())["User"], users)

    def test_systemd_sysusers_takes_the_users(self):
        if not shutil.which("systemd-sysusers"):
            self.skipTest("no systemd-sysusers here (Debian package systemd)")
        (self.dir / "etc").mkdir()
        r = subprocess.run(["systemd-sysusers", f"--root={self.dir}", str(UNITS / "photon.sysusers")], capture_output=True, text=True)
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertRegex((self.dir / "etc/passwd").read_text(), r"(?m)^photon-agent:x:\d+:\d+:PHOTON agent:/srv/photon-agent:/bin/sh$")


if __name__ == "__main__":
    unittest.main()
