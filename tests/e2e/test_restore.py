"""A hub goes back to an older copy of its data, while its agents have gone on."""
import os
import shutil
import signal
import unittest

from harness import World, wait_for


class Restore(World):
    def dispatched_and_not_told(self, hub, a, effect):
        """A run whose step is on its way to a stopped agent: the hub has it committed and knows no more."""
        mark = self.dir / f"mark-{effect}"
        # Online is an agent that has said Hello; only one that has opened its session is sent anything.
        wait_for("the agent to be ready", lambda: f"agent ready agent={a.name} " in hub.proc.text())
        os.kill(a.proc.p.pid, signal.SIGSTOP)
        run = hub.submit({"name": effect, "steps": [{"id": "s", "effect": effect, "run": f"echo x >> {mark}"}]})
        wait_for("the step to be dispatched", lambda: hub.run_json(run)["steps"][0]["state"] == "dispatched")
        return run, mark

    def test_what_an_agent_did_meanwhile_is_not_done_again(self):
        hub = self.hub()
        a = self.agent(hub, "a1")
        once, once_mark = self.dispatched_and_not_told(hub, a, "at-most-once")
        again, again_mark = self.dispatched_and_not_told(hub, a, "idempotent")
        hub.kill9()
        shutil.copytree(hub.dir, self.dir / "copy")
        hub.restart()
        os.kill(a.proc.p.pid, signal.SIGCONT)
        for run in (once, again):
            self.assertEqual(hub.wait_run(run)["state"], "succeeded")
        lost = hub.submit({"name": "future", "steps": [{"id": "s", "run": "echo from a future that is gone"}]})
        self.assertEqual(hub.wait_run(lost)["state"], "succeeded")
        logs = hub.dir / "logs"
        hub.proc.stop()
        kept = self.dir / "newer-logs"
        shutil.copytree(logs, kept)
        shutil.rmtree(hub.dir)
        shutil.copytree(self.dir / "copy", hub.dir)
        shutil.rmtree(logs)
        shutil.copytree(kept, logs)  # the database is older than the logs beside it
        hub.restart()
        a.wait_online()
        wait_for("the at-most-once step to ask", lambda: hub.run_json(once)["steps"][0]["state"] == "unknown")
        self.assertIn("older copy", hub.run_json(once)["steps"][0]["error"]["message"])
        self.assertEqual(hub.wait_run(again)["state"], "succeeded")
        self.assertEqual(once_mark.read_text(), "x\n")
        self.assertEqual(again_mark.read_text(), "x\nx\n")
        for i in range(5):  # nothing of the lost future shows up in what is new
            run = hub.submit({"name": "new", "steps": [{"id": "s", "run": f"echo new {i}"}]})
            self.assertEqual(hub.wait_run(run)["state"], "succeeded")
            self.assertEqual(hub.cli("logs", run, "s").stdout, f"new {i}\n")
        r = hub.cli("run", "resolve", once, "s", "succeeded")
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertEqual(hub.wait_run(once)["state"], "succeeded")


if __name__ == "__main__":
    unittest.main()
