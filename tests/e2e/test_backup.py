"""docs/OPERATING.md on backup: a copy of a stopped hub, and a copy of one that serves, are the hub."""
import shutil
import subprocess
import unittest
from pathlib import Path

from harness import World, wait_for


class Backup(World):
    def exec_lines(self, hub, n):
        r = hub.cli("exec", "--", "seq", str(n))
        self.assertEqual((r.returncode, len(r.stdout.splitlines())), (0, n), r.stderr)

    def last_run(self, hub):
        return hub.api("GET", "/runs?limit=1")[1]["items"][0]["id"]

    def put_back(self, hub, copy):
        """The copy in the place of the hub's folder."""
        hub.proc.stop()
        shutil.rmtree(hub.dir)
        shutil.copytree(copy, hub.dir)
        hub.dir.chmod(0o700)
        hub.start()

    def check(self, hub, run):
        self.assertEqual(len(hub.cli("logs", run).stdout.splitlines()), 100000)
        wait_for("the agent to come back", lambda: hub.agents()["a"]["state"] == "online")
        self.exec_lines(hub, 1000)
        self.exec_lines(hub, 100000)

    def test_a_copy_of_a_stopped_hub_is_the_hub(self):
        hub = self.hub()
        self.agent(hub, "a")
        self.exec_lines(hub, 100000)
        run = self.last_run(hub)
        hub.proc.stop()
        shutil.copytree(hub.dir, self.dir / "copy")
        hub.start()
        wait_for("the agent to come back", lambda: hub.agents()["a"]["state"] == "online")
        self.exec_lines(hub, 1000)  # more than the copy knows
        self.put_back(hub, self.dir / "copy")
        self.check(hub, run)

    def test_a_copy_of_a_hub_that_serves(self):
        if not shutil.which("sqlite3"):
            self.skipTest("no sqlite3 here (Debian package sqlite3)")
        hub = self.hub()
        self.agent(hub, "a")
        self.exec_lines(hub, 100000)
        run = self.last_run(hub)
        go = self.dir / "go"
        under_way = hub.submit({"name": "w", "steps": [
            {"id": "hold", "effect": "idempotent", "run": f"touch {self.dir}/held; while [ ! -e {go} ]; do sleep 0.05; done"},
            {"id": "after", "needs": ["hold"], "run": "echo on"}]})
        wait_for("a step to run", lambda: (self.dir / "held").exists() and hub.run_json(under_way)["steps"][0]["state"] == "running")
        # The commands of docs/OPERATING.md.
        doc = (Path(__file__).resolve().parents[2] / "docs/OPERATING.md").read_text()
        script = doc.split("<!-- test: backup -->\n```sh\n")[1].split("```")[0]
        copy = self.dir / "copy"
        script = script.replace("sudo ", "").replace("/var/lib/photon-hub", str(hub.dir)).replace("/backup/photon-hub", str(copy))
        r = subprocess.run(["sh", "-ec", script], capture_output=True, text=True)
        self.assertEqual(r.returncode, 0, r.stderr)
        self.exec_lines(hub, 100000)
        self.put_back(hub, copy)
        self.check(hub, run)
        # What was under way goes on: the copy has the key that its rows are sealed with.
        go.touch()
        doc = hub.wait_run(under_way)
        self.assertEqual(doc["state"], "succeeded", doc)


if __name__ == "__main__":
    unittest.main()
