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

    def test_following_ends_when_its_reader_leaves_and_the_run_goes_on(self):
        hub = self.hub()
        self.agent(hub, "a1")
        (self.dir / "w.yaml").write_text("steps:\n" + "".join(
            f"  - {{id: s{i}, run: sleep 0.1{f', needs: s{i - 1}' if i else ''}}}\n" for i in range(8)))
        for flags in ("", "-o wide "):
            r = self.shell(hub, f"photon run {flags}w.yaml 2>/dev/null | head -n 1 >/dev/null; echo ${{PIPESTATUS[0]}}")
            self.assertEqual(r.stdout, "141\n", r.stderr)
            self.assertEqual(len(self.active(hub)), 1)
            wait_for("the run's end", lambda: not self.active(hub))

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

    def test_mistakes_are_said_once_with_their_place_and_a_remedy(self):
        hub = self.hub()
        w, j, inp = self.dir / "w.yaml", self.dir / "w.json", self.dir / "in.json"
        w.write_text("inputs: {n: {type: number}, v: {}}\nsteps: [{run: 'echo ${{ inputs.n }}'}]\n")
        j.write_text('{"steps":[{"run":"a",}]}')
        inp.write_text('{"n":1,}')
        for status, text, args in (
                (64, "-i n: expected KEY=VALUE", ("run", w, "-i", "n")),
                (64, "-i: n is given twice", ("run", w, "-i", "n=1", "-i", "n=2")),
                (1, "unknown input \"zzzz\": the workflow takes \"n\" and others", ("run", w, "-i", "zzzz=1")),
                (1, "in.json:1:8: not valid JSON: expected", ("run", w, "--inputs", inp)),
                (1, "w.json:1:22: not valid JSON: expected", ("validate", j)),
                (64, "--input: line 1, column 2: not valid JSON: ", ("call", "photon.echo", "--input", "{a}"))):
            r = hub.cli(*args)
            self.assertIn(text, r.stdout + r.stderr)
            self.assertEqual(r.returncode, status, args)
        for text, place, remedy in (
                ("steps:\n  - {id: a, run: x, retry: {limit: 1, backoff: 5s}}\n", "2:48", "{duration: 5s, factor: 2}"),
                ("inputs: {n: {type: int}}\nsteps: [{run: x}]\n", "1:20", 'did you mean "number"?')):
            w.write_text(text)
            r = hub.cli("validate", w)
            self.assertIn(f"w.yaml:{place}: ", r.stdout + r.stderr)
            self.assertIn(remedy, r.stdout + r.stderr)

    def test_a_run_that_succeeded_is_not_offered_a_retry(self):
        hub = self.hub()
        self.agent(hub, "a1")
        w = self.dir / "w.yaml"
        w.write_text("steps: [{id: a, run: exit 3, continue-on-error: true}]\n")
        r = hub.cli("run", w)
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertNotIn("retry", r.stdout + r.stderr)

    def test_an_output_that_cannot_be_made_spares_the_others(self):
        hub = self.hub()
        self.agent(hub, "a1")
        doc = hub.wait_run(hub.submit("outputs: {bad: \"${{ fromJSON(steps.a.outputs.stdout) }}\", good: \"${{ steps.a.outputs.v }}\"}\n"
                                      "steps: [{id: a, run: 'echo v=7 >> $PHOTON_OUTPUT'}]\n"))
        self.assertEqual((doc["state"], doc["outputs"]), ("succeeded", {"good": "7"}))
        self.assertEqual(doc["error"]["code"], "outputs_expression")
        self.assertTrue(doc["error"]["message"].startswith("output bad: fromJSON"), doc["error"])


if __name__ == "__main__":
    unittest.main()
