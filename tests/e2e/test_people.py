"""What people at a shell do to photon: pipes that end early, names that are wrong, second thoughts."""
import signal
import subprocess
import unittest

from harness import CLI, World, clean_env, wait_for


class People(World):
    def shell(self, hub, script, **kw):
        env = clean_env(self.dir, PHOTON_HUB=hub.url, PHOTON_TOKEN=hub.token, PHOTON_CA=hub.ca)
        env["PATH"] = f"{CLI.parent}:{env['PATH']}"
        return subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, timeout=60, cwd=self.dir, **kw)

    def active(self, hub):
        return [r for r in hub.api("GET", "/runs")[1]["items"] if r["state"] in ("queued", "running", "waiting")]

    def test_exec_whose_reader_leaves_ends_the_command(self):
        hub = self.hub()
        self.agent(hub, "a1")
        for flags in ("", "-o json "):
            r = self.shell(hub, f"photon exec {flags}-- yes </dev/null | head -c 100 >/dev/null; echo ${{PIPESTATUS[0]}}")
            self.assertEqual((r.stdout, r.stderr), ("141\n", ""))
            wait_for("the command's end", lambda: not self.active(hub))

    def test_a_command_that_does_not_read_its_input_is_no_error(self):
        hub = self.hub()
        self.agent(hub, "a1")
        for script in ("true", "head -c 10 >/dev/null", "exec <&-; true"):
            r = self.shell(hub, f"yes | photon exec -- sh -c '{script}'; echo ${{PIPESTATUS[1]}}")
            self.assertEqual((r.stdout, r.stderr), ("0\n", ""), script)

    def test_exec_says_at_once_which_agent_it_waits_for(self):
        hub = self.hub()
        self.agent(hub, "a1").kill9()
        wait_for("a1 offline", lambda: hub.agents()["a1"]["state"] == "offline")
        env = clean_env(self.dir, PHOTON_HUB=hub.url, PHOTON_TOKEN=hub.token, PHOTON_CA=hub.ca)
        for name, why in (("nope", "there is no agent nope"), ("a1", "agent a1 cannot take it: it is offline")):
            p = subprocess.Popen([str(CLI), "exec", "--agent", name, "--", "true"], env=env, stdin=subprocess.DEVNULL,
                                 stderr=subprocess.PIPE, text=True)
            self.assertIn(why, p.stderr.readline())
            p.send_signal(signal.SIGINT)
            self.assertEqual(p.wait(20), 2)
            p.stderr.close()

    def test_a_failed_fan_out_is_retried(self):
        hub = self.hub()
        self.agent(hub, "a1")
        flag = self.dir / "flag"
        run = hub.submit("name: x\nsteps:\n  - {id: a, for-each: [1, 2, 3], fail-fast: false, "
                         f"run: 'test ${{{{ each.item }}}} != 2 || test -e {flag}'}}\n  - {{id: b, needs: a, run: echo end}}\n")
        self.assertEqual(hub.wait_run(run)["state"], "failed")
        flag.touch()
        self.assertEqual(hub.cli("run", "retry", run).returncode, 0)
        doc = hub.wait_run(run)
        self.assertEqual(doc["state"], "succeeded")
        self.assertEqual({s["id"]: s["attempt"] for s in doc["steps"]}, {"b": 1, "a[0]": 1, "a[1]": 2, "a[2]": 1})


if __name__ == "__main__":
    unittest.main()
