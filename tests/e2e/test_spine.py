"""The main job, end to end: join, run, stream, cancel, and what people see."""
import hashlib
import json
import os
import time
import unittest

from harness import AGENT, CLI, HUB, ROOT, Agent, World, wait_for


class Spine(World):
    def test_three_agents_join_by_one_token_and_run_a_dag(self):
        hub = self.hub()
        self.three(hub)
        wf = {"name": "dag", "inputs": {"v": {"type": "string", "required": True}}, "steps": [
            {"id": "a", "run": "echo one; echo two >&2; echo \"x=$((40+2))\" >> $PHOTON_OUTPUT"},
            {"id": "b", "needs": ["a"], "run": "echo ${{ steps.a.outputs.x }}-${{ inputs.v }}"},
            {"id": "c", "needs": ["a"], "if": "${{ steps.a.outputs.exit_code == 1 }}", "run": "false"}]}
        doc = hub.wait_run(hub.submit(wf, v="q"))
        self.assertEqual(doc["state"], "succeeded", doc)
        steps = {s["id"]: s for s in doc["steps"]}
        self.assertEqual(steps["b"]["outputs"]["stdout"], "42-q\n")
        self.assertEqual(steps["c"]["state"], "skipped")
        self.assertEqual(steps["a"]["exit_code"], 0)
        self.assertEqual(steps["b"]["needs"], ["a"])
        self.assertRegex(steps["a"]["started_at"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")
        self.assertLessEqual(steps["a"]["finished_at"], steps["b"]["started_at"])
        r = hub.cli("logs", doc["id"], "a", text=False)
        self.assertEqual(sorted(r.stdout.split()), [b"one", b"two"])

    def test_cli_run_follows_and_its_exit_status_tells(self):
        hub = self.hub()
        self.agent(hub, "a1")
        ok, bad = self.dir / "ok.yaml", self.dir / "bad.yaml"
        ok.write_text("name: ok\nsteps:\n  - {id: a, run: echo hi}\n")
        bad.write_text("name: bad\nsteps:\n  - {id: a, run: 'echo broken >&2; exit 3'}\n")
        r = hub.cli("run", ok)
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertRegex(r.stderr.splitlines()[0], r"[0-9a-z]{26}")
        r = hub.cli("run", bad)
        self.assertEqual(r.returncode, 1, r.stderr)
        self.assertIn("broken", r.stdout + r.stderr)
        r = hub.cli("run", ok, "-o", "json")
        self.assertEqual(json.loads(r.stdout.splitlines()[-1])["state"], "succeeded")
        r = hub.cli("run", self.dir / "absent.yaml")
        self.assertNotEqual(r.returncode, 0)
        self.assertIn("absent.yaml", r.stderr)

    def test_a_mistake_in_a_workflow_names_file_line_and_column(self):
        hub = self.hub()
        f = self.dir / "w.yaml"
        f.write_text("name: x\nsteps:\n  - id: a\n    run: echo\n    need: b\n")
        for cmd in ("validate", "run"):
            r = hub.cli(cmd, f)
            self.assertEqual(r.returncode, 1, r.stderr)
            self.assertIn("w.yaml:5:5:", r.stdout + r.stderr)
            self.assertIn("needs", r.stdout + r.stderr)
        f.write_text("name: x\nsteps:\n  - {id: a, run: x, needs: b}\n  - {id: b, run: x, needs: a}\n")
        r = hub.cli("validate", f)
        self.assertEqual(r.returncode, 1)
        self.assertIn("cycle", (r.stdout + r.stderr).lower())

    def test_exec_pipes_stdin_stdout_stderr_and_exit_status(self):
        hub = self.hub()
        self.agent(hub, "a1")
        r = hub.cli("exec", "--", "sh", "-c", "cat; echo err >&2; exit 7", stdin="hello\n")
        self.assertEqual((r.stdout, r.returncode), ("hello\n", 7), r.stderr)
        self.assertIn("err", r.stderr)
        big = os.urandom(3_000_000)
        r = hub.cli("exec", "--", "cat", stdin=big, text=False)
        self.assertEqual(hashlib.sha256(r.stdout).hexdigest(), hashlib.sha256(big).hexdigest(), r.stderr[-500:])
        r = hub.cli("exec", "--", "sh", "-c", "kill -9 $$", stdin="")
        self.assertEqual(r.returncode, 137)
        r = hub.cli("exec", "--", "no-such-command-here", stdin="")
        self.assertNotEqual(r.returncode, 0)
        self.assertIn("no-such-command-here", r.stderr)

    def test_call_any_tool(self):
        hub = self.hub()
        self.agent(hub, "a1")
        p = str(self.dir / "f.txt")
        r = hub.cli("call", "file.write", "--input", json.dumps({"path": p, "content": "hé"}))
        self.assertEqual(r.returncode, 0, r.stderr)
        r = hub.cli("call", "file.read", "--input", json.dumps({"path": p}))
        self.assertEqual(json.loads(r.stdout)["content"], "hé")
        r = hub.cli("call", "file.read", "--input", '{"path": ["x"]}')
        self.assertEqual(r.returncode, 1)
        self.assertIn("path", r.stderr)

    def test_large_output_is_byte_exact_and_small_output_too(self):
        hub = self.hub()
        self.agent(hub, "a1")
        run = hub.submit({"name": "big", "steps": [
            {"id": "big", "run": "head -c 50000000 /dev/urandom | tee $OUT | cat", "env": {"OUT": str(self.dir / "copy")}},
            {"id": "small", "run": "printf 'a\\000b\\377c'"}]})
        self.assertEqual(hub.wait_run(run)["state"], "succeeded")
        r = hub.cli("logs", run, "big", text=False)
        self.assertEqual(hashlib.sha256(r.stdout).hexdigest(), hashlib.sha256((self.dir / "copy").read_bytes()).hexdigest())
        self.assertEqual(hub.cli("logs", run, "small", text=False).stdout, b"a\0b\xffc")

    def test_cancel_ends_the_whole_process_tree(self):
        hub = self.hub("--cancel-grace", "500ms")
        self.agent(hub, "a1")
        pids = self.dir / "pids"
        run = hub.submit({"name": "c", "steps": [{"id": "a", "run":
                          f"trap '' TERM; (trap '' TERM; echo $BASHPID >> {pids}; sleep 1000) & setsid sleep 1000 & echo $! >> {pids}; echo $$ >> {pids}; wait; sleep 1000",
                          "shell": "bash"}]})
        wait_for("three pids", lambda: pids.exists() and len(pids.read_text().split()) == 3)
        r = hub.cli("run", "cancel", run)
        self.assertEqual(r.returncode, 0, r.stderr)
        doc = hub.wait_run(run, 30)
        self.assertEqual(doc["state"], "cancelled")

        def gone():
            for pid in pids.read_text().split():
                try:
                    with open(f"/proc/{pid}/stat") as f:
                        if f.read().split()[2] != "Z":
                            return False
                except FileNotFoundError:
                    pass
            return True
        wait_for("every process of the call gone", gone, 10)

    def test_timeout_retry_and_finally(self):
        hub = self.hub()
        self.agent(hub, "a1")
        n = self.dir / "n"
        doc = hub.wait_run(hub.submit({"name": "t", "steps": [
            {"id": "slow", "run": "sleep 100", "timeout": "300ms", "continue-on-error": True},
            {"id": "flaky", "run": f"echo x >> {n}; test $(wc -l < {n}) -ge 3", "retry": {"limit": 3, "backoff": {"duration": "50ms"}}}],
            "finally": [{"id": "f", "run": "echo bye"}]}))
        s = {x["id"]: x for x in doc["steps"]}
        self.assertEqual(doc["state"], "succeeded", doc)
        self.assertEqual(s["slow"]["error"]["code"], "timeout")
        self.assertEqual(s["flaky"]["attempt"], 3)
        self.assertEqual(s["f"]["outputs"]["stdout"], "bye\n")

    def test_placement_follows_labels_and_explain_says_why_it_waits(self):
        hub = self.hub()
        self.agent(hub, "a1", "--label", "gpu=true")
        self.agent(hub, "a2")
        doc = hub.wait_run(hub.submit({"name": "p", "steps": [{"id": "m", "for-each": [1, 2, 3], "runs-on": {"gpu": "true"}, "run": "true"}]}))
        self.assertEqual({s["agent"] for s in doc["steps"]}, {"a1"})
        run = hub.submit({"name": "w", "steps": [{"id": "x", "runs-on": {"gpu": "two"}, "run": "true"}]})
        r = hub.cli("run", "explain", run, "x")
        self.assertIn("gpu", r.stdout)
        self.assertIn("two", r.stdout)
        hub.cli("run", "cancel", run)

    def test_output_and_result_survive_a_hub_that_was_away(self):
        hub = self.hub()
        self.agent(hub, "a1")
        go = self.dir / "go"
        run = hub.submit({"name": "away", "steps": [{"id": "a", "run":
                          f"echo before; while [ ! -e {go} ]; do sleep 0.05; done; head -c 3000000 /dev/zero; echo after"}]})
        wait_for("the step to run", lambda: hub.run_json(run)["steps"][0]["state"] == "running")
        hub.kill9()
        go.touch()
        time.sleep(0.5)  # the tool ends while nobody listens
        hub.restart()
        doc = hub.wait_run(run)
        self.assertEqual(doc["state"], "succeeded", doc)
        self.assertEqual(hub.cli("logs", run, "a", text=False).stdout, b"before\n" + b"\0" * 3000000 + b"after\n")
        self.assertEqual(doc["steps"][0]["attempt"], 1)

    def test_founding_operation_is_accepted(self):
        hub = self.hub()
        r = hub.cli("validate", ROOT / "tests/data/seed-operation.json")
        self.assertEqual(r.returncode, 0, r.stdout + r.stderr)

    def test_events_resume_by_last_event_id(self):
        hub = self.hub()
        self.agent(hub, "a1")
        run = hub.submit({"name": "e", "steps": [{"id": "a", "run": "true"}, {"id": "b", "needs": "a", "run": "true"}]})
        hub.wait_run(run)
        status, data, _ = hub.api("GET", f"/runs/{run}/events", raw=True)
        self.assertEqual(status, 200)
        events = [json.loads(l[6:]) for l in data.decode().splitlines() if l.startswith("data: ")]
        self.assertEqual(events[0]["type"], "run.created")
        self.assertEqual(events[-1]["type"], "run.succeeded")
        ids = [e["id"] for e in events]
        self.assertEqual(ids, sorted(set(ids)))
        mid = events[len(events) // 2]["id"]
        status, data, _ = hub.api("GET", f"/runs/{run}/events", raw=True, headers={"Last-Event-ID": str(mid)})
        again = [json.loads(l[6:])["id"] for l in data.decode().splitlines() if l.startswith("data: ")]
        self.assertEqual(again, [i for i in ids if i > mid])

    def test_init_refuses_to_overwrite_and_serve_makes_an_empty_folder(self):
        hub = self.hub()
        r = self.run_program(HUB, "init", "--data", hub.dir)
        self.assertNotEqual(r.returncode, 0)
        self.assertIn("already", r.stderr)
        self.assertEqual(os.stat(hub.dir).st_mode & 0o777, 0o700)
        r = self.run_program(HUB, "serve", "--data", hub.dir, "--agent-listen", "127.0.0.1:0", "--api-listen", "127.0.0.1:0")
        self.assertNotEqual(r.returncode, 0)
        self.assertIn("another", r.stderr)


if __name__ == "__main__":
    unittest.main()
