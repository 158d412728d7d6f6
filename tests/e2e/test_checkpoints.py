"""Questions to people: a real agent asks, the hub keeps the question, a person answers, the tool goes on."""
import hashlib
import json
import re
import signal
import subprocess
import time
import unittest

from harness import CLI, World, clean_env, wait_for

ASK = {"question": "Delete the build folder", "arguments": {"path": "/srv/build", "recursive": True}, "action": "delete"}


class Checkpoints(World):
    def call(self, hub, token=None, effect=None, timeout=None, **more):
        body = {"tool": "photon.ask", "input": {**ASK, **more}}
        if effect:
            body["effect"] = effect
        if timeout:
            body["timeout"] = timeout
        status, run = hub.api("POST", "/calls", body, token=token)
        self.assertEqual(status, 201, run)
        return run["id"]

    def open_one(self, hub, run=None):
        def one():
            status, doc = hub.api("GET", "/checkpoints" + (f"?run={run}" if run else ""))
            self.assertEqual(status, 200, doc)
            return doc["items"][0] if doc["items"] else None
        return wait_for("an open checkpoint", one)

    def show(self, hub, cid):
        status, doc = hub.api("GET", f"/checkpoints/{cid}")
        self.assertEqual(status, 200, doc)
        return doc

    def step(self, hub, run):
        return hub.run_json(run)["steps"][0]

    def decide(self, hub, cid, how, body=None, want=200, **kw):
        status, doc = hub.api("POST", f"/checkpoints/{cid}/{how}", body or {}, **kw)
        self.assertEqual(status, want, doc)
        return doc

    def test_a_person_approves_at_the_shell(self):
        hub = self.hub()
        self.agent(hub, "a1")
        run = self.call(hub)
        cp = self.open_one(hub)
        self.assertEqual((cp["run"], cp["title"], cp["agent"]), (run, ASK["question"], "a1"))
        self.assertEqual(hub.run_json(run)["state"], "waiting")
        self.assertEqual(self.step(hub, run)["checkpoint"], cp["id"])
        listed = hub.cli("checkpoints")
        self.assertIn(cp["id"], listed.stdout)
        self.assertIn(ASK["question"], listed.stdout)
        shown = hub.cli("checkpoint", "show", cp["id"])
        self.assertIn('"path": "/srv/build"', shown.stdout)
        exact = self.show(hub, cp["id"])["arguments"]
        self.assertEqual(json.loads(exact), ASK["arguments"])
        self.assertIn(hashlib.sha256(exact.encode()).hexdigest(), shown.stdout)
        r = hub.cli("approve", cp["id"], "--reason", "go on")
        self.assertEqual((r.returncode, r.stdout), (0, ""), r.stderr)
        done = hub.wait_run(run)
        self.assertEqual(done["state"], "succeeded")
        out = done["steps"][0]["outputs"]
        self.assertEqual((out["approved"], out["outcome"], out["reason"]), (True, "approved", "go on"))
        doc = self.show(hub, cp["id"])
        self.assertEqual((doc["state"], doc["decided_by"]), ("approved", out["by"]))
        self.assertTrue(doc["delivered_at"])
        self.assertNotIn("checkpoint", done["steps"][0])

    def test_a_rejection_fails_the_step_with_its_reason(self):
        hub = self.hub()
        self.agent(hub, "a1")
        run = self.call(hub)
        cp = self.open_one(hub)
        r = hub.cli("reject", cp["id"], "--reason", "not today")
        self.assertEqual(r.returncode, 0, r.stderr)
        done = hub.wait_run(run)
        self.assertEqual((done["state"], done["steps"][0]["error"]["code"]), ("failed", "question_denied"))
        self.assertIn("not today", done["steps"][0]["error"]["message"])

    def test_decided_once_bound_to_the_digest_and_only_by_who_may(self):
        hub = self.hub("--approvals-self", "allow")
        self.agent(hub, "a1")
        client = hub.cli("api-token", "create", "--name", "cleo", "--role", "client").stdout.strip()
        tech = hub.cli("api-token", "create", "--name", "tess", "--role", "technical-operator").stdout.strip()
        run = self.call(hub)
        cp = self.open_one(hub)
        cid, sha = cp["id"], cp["sha256"]
        other = hashlib.sha256(b"{}").hexdigest()
        for how in ("approve", "reject"):
            self.assertEqual(self.decide(hub, cid, how, {"sha256": other}, 409)["code"], "digest_mismatch")
            self.decide(hub, cid, how, {}, 403, token=client)
            self.assertEqual(self.decide(hub, "nonsense", how, {}, 404)["code"], "not_found")
        self.assertEqual(self.decide(hub, cid, "approve", {"sha256": "12"}, 400)["code"], "invalid_argument")
        self.decide(hub, cid, "approve", {"wrong": 1}, 400)
        self.assertEqual(self.decide(hub, cid, "approve", {"content": {"a": 1}}, 400)["code"], "invalid_content")
        r = hub.cli("approve", cid, "--sha256", other)
        self.assertEqual(r.returncode, 1, r.stderr)
        self.assertIn("SHA-256", r.stderr)
        self.assertEqual(self.show(hub, cid)["state"], "open")
        key = {"Idempotency-Key": "once"}
        body = {"sha256": sha, "reason": "fine"}
        first = self.decide(hub, cid, "approve", body, token=tech, headers=key)
        self.assertEqual((first["state"], first["decided_by"]), ("approved", "tess"))
        again = self.decide(hub, cid, "approve", body, token=tech, headers=key)
        self.assertEqual((again["id"], again["state"]), (cid, "approved"))
        second = self.decide(hub, cid, "reject", {}, 409)
        self.assertEqual(second["code"], "checkpoint_decided")
        self.assertIn("approved by tess already: fine", second["detail"])
        self.assertEqual(hub.wait_run(run)["state"], "succeeded")
        self.assertEqual(self.decide(hub, cid, "reject", {}, 409)["code"], "checkpoint_decided")
        status, page = hub.api("GET", f"/checkpoints?state=approved&run={run}")
        self.assertEqual([c["id"] for c in page["items"]], [cid])
        self.assertEqual(hub.api("GET", "/checkpoints")[1]["items"], [])

    def test_nobody_answers_and_the_time_is_up(self):
        hub = self.hub()
        self.agent(hub, "a1")
        run = self.call(hub, required=False)
        cp = self.open_one(hub)
        self.decide(hub, cp["id"], "reject")
        self.assertEqual(hub.wait_run(run)["steps"][0]["outputs"]["outcome"], "rejected")
        status, doc = hub.api("POST", "/calls", {"tool": "photon.ask", "input": {**ASK, "timeout": "1s"}})
        done = hub.wait_run(doc["id"])
        self.assertEqual(done["steps"][0]["error"]["code"], "question_expired")
        status, page = hub.api("GET", f"/checkpoints?state=expired&run={doc['id']}")
        cid = page["items"][0]["id"]
        late = self.decide(hub, cid, "approve", {}, 409)
        self.assertEqual(late["code"], "checkpoint_expired")
        self.assertIn("counts as rejected", late["detail"])

    def test_the_calls_timeout_stands_still_while_it_waits(self):
        hub = self.hub()
        self.agent(hub, "a1")
        run = self.call(hub, timeout="3s")
        cp = self.open_one(hub)
        begun = time.monotonic()
        # Nothing happens to the call in more than its limit.
        with self.assertRaises(subprocess.TimeoutExpired):
            p = subprocess.Popen([str(CLI), "run", "watch", run], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL,
                                 env=clean_env(self.dir, PHOTON_HUB=hub.url, PHOTON_TOKEN=hub.token, PHOTON_CA=hub.ca))
            self.addCleanup(lambda: (p.kill(), p.wait()))
            p.wait(4)
        self.assertGreater(time.monotonic() - begun, 4)
        self.decide(hub, cp["id"], "approve")
        self.assertEqual(hub.wait_run(run)["state"], "succeeded")

    def test_the_hub_dies_and_the_question_lives(self):
        hub = self.hub()
        agent = self.agent(hub, "a1")
        run = self.call(hub)
        cp = self.open_one(hub)
        hub.kill9()
        hub.restart()
        wait_for("a1 online again", lambda: hub.agents()["a1"]["state"] == "online")
        again = self.open_one(hub, run)
        self.assertEqual((again["id"], again["expires_at"]), (cp["id"], cp["expires_at"]))
        self.assertEqual(hub.run_json(run)["state"], "waiting")
        self.decide(hub, cp["id"], "approve", {"reason": "after the crash"})
        done = hub.wait_run(run)
        self.assertEqual((done["state"], done["steps"][0]["attempt"]), ("succeeded", 1))
        self.assertEqual(done["steps"][0]["outputs"]["reason"], "after the crash")
        self.assertEqual(hub.api("GET", "/checkpoints?state=all")[1]["items"][0]["id"], cp["id"])
        self.assertTrue(agent.proc.alive())

    def test_an_answer_given_while_the_agent_is_away_is_kept(self):
        hub = self.hub("--lost-after", "300s")
        agent = self.agent(hub, "a1")
        run = self.call(hub)
        cp = self.open_one(hub)
        agent.proc.p.send_signal(signal.SIGSTOP)
        try:
            hub.kill9()  # so that the connection is gone and not only silent
            hub.restart()
            self.decide(hub, cp["id"], "approve")
            self.assertIsNone(self.show(hub, cp["id"])["delivered_at"])
        finally:
            agent.proc.p.send_signal(signal.SIGCONT)
        self.assertEqual(hub.wait_run(run)["state"], "succeeded")
        self.assertTrue(self.show(hub, cp["id"])["delivered_at"])

    def test_cancelling_withdraws_the_question(self):
        hub = self.hub()
        self.agent(hub, "a1")
        run = self.call(hub)
        cp = self.open_one(hub)
        r = hub.cli("run", "cancel", run)
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertEqual(hub.wait_run(run)["state"], "cancelled")
        self.assertEqual(self.show(hub, cp["id"])["state"], "withdrawn")
        late = self.decide(hub, cp["id"], "approve", {}, 409)
        self.assertEqual(late["code"], "checkpoint_decided")
        self.assertIn("withdrawn", late["detail"])

    def test_an_agent_that_is_killed_loses_the_question_and_says_so(self):
        hub = self.hub()
        agent = self.agent(hub, "a1")
        once = self.call(hub, effect="at-most-once")
        first = self.open_one(hub, once)
        again = self.call(hub, effect="idempotent")
        second = self.open_one(hub, again)
        agent.kill9()
        agent.start()
        step = wait_for("the step to be unknown", lambda: self.step(hub, once) if self.step(hub, once)["state"] == "unknown" else None)
        self.assertEqual(step["error"]["code"], "question_lost")
        self.assertIn(ASK["question"], step["error"]["message"])
        self.assertEqual(self.show(hub, first["id"])["state"], "withdrawn")
        self.decide(hub, first["id"], "approve", {}, 409)
        # The one that may run twice asks again by itself; the other when a person says so.
        fresh = wait_for("the question again", lambda: next((c for c in hub.api("GET", f"/checkpoints?run={again}")[1]["items"] if c["id"] != second["id"]), None))
        self.assertEqual(self.show(hub, second["id"])["state"], "withdrawn")
        self.decide(hub, fresh["id"], "approve")
        self.assertEqual(hub.wait_run(again)["state"], "succeeded")
        self.assertEqual(hub.cli("run", "resolve", once, "call", "retry").returncode, 0)
        self.decide(hub, self.open_one(hub, once)["id"], "approve")
        self.assertEqual(hub.wait_run(once)["state"], "succeeded")

    def test_values_are_held_against_what_was_asked_for(self):
        hub = self.hub()
        self.agent(hub, "a1")
        schema = {"type": "object", "required": ["port"], "additionalProperties": False,
                  "properties": {"port": {"type": "integer", "minimum": 1}, "name": {"type": "string"}}}
        run = self.call(hub, kind="input", schema=schema)
        cp = self.open_one(hub)
        self.assertEqual(self.show(hub, cp["id"])["schema"], schema)
        self.assertEqual(self.decide(hub, cp["id"], "approve", {}, 400)["code"], "invalid_content")
        bad = self.decide(hub, cp["id"], "approve", {"content": {"port": "x"}}, 400)
        self.assertEqual(bad["code"], "invalid_content")
        self.assertIn("port", bad["detail"])
        r = hub.cli("approve", cp["id"], "--input", "port=many")
        self.assertEqual(r.returncode, 1)
        self.assertIn("integer", r.stderr)
        r = hub.cli("approve", cp["id"], "--input", "port=8080", "--input", "name=42")
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertEqual(hub.wait_run(run)["steps"][0]["outputs"]["content"], {"port": 8080, "name": "42"})

    def test_the_agents_policy_answers_first_and_deny_wins(self):
        hub = self.hub()
        self.agent(hub, "a1", policy="version: 1\nquestions:\n  allow: [{action: read}, {action: delete}]\n  deny: [{action: delete}]\n")
        done = hub.wait_run(self.call(hub))
        self.assertEqual(done["steps"][0]["error"]["code"], "question_denied")
        self.assertIn("questions.deny", done["steps"][0]["error"]["message"])
        done = hub.wait_run(self.call(hub, action="read"))
        self.assertEqual(done["steps"][0]["outputs"]["by"], "policy")
        self.assertEqual(hub.api("GET", "/checkpoints?state=all")[1]["items"], [])

    def test_a_hub_can_want_a_second_person(self):
        hub = self.hub("--approvals-self", "deny")
        self.agent(hub, "a1")
        tess = hub.cli("api-token", "create", "--name", "tess", "--role", "technical-operator").stdout.strip()
        run = self.call(hub, token=tess)
        cp = self.open_one(hub)
        self.assertEqual(self.decide(hub, cp["id"], "approve", {}, 403, token=tess)["code"], "own_request")
        self.decide(hub, cp["id"], "approve")
        self.assertEqual(hub.wait_run(run)["state"], "succeeded")

    def test_who_is_alone_may_approve_a_tool_and_who_is_not_may_not(self):
        hub = self.hub()
        self.agent(hub, "a1")
        run = self.call(hub)
        self.decide(hub, self.open_one(hub)["id"], "approve")
        self.assertEqual(hub.wait_run(run)["state"], "succeeded")
        tess = hub.cli("api-token", "create", "--name", "tess", "--role", "technical-operator").stdout.strip()
        run = self.call(hub)
        cp = self.open_one(hub, run)
        self.assertEqual(self.decide(hub, cp["id"], "approve", {}, 403)["code"], "own_request")
        self.decide(hub, cp["id"], "approve", token=tess)
        self.assertEqual(hub.wait_run(run)["state"], "succeeded")

    def test_a_followed_run_shows_the_question_and_how_to_answer(self):
        hub = self.hub()
        self.agent(hub, "a1")
        (self.dir / "w.yaml").write_text("name: gate\nsteps:\n  - id: gate\n    uses: photon.ask\n    with: {question: 'Deploy \\e[31m now?'}\n"
                                         "  - {id: go, needs: gate, run: echo gone}\n".replace("'Deploy \\e[31m now?'", '"Deploy \\e[31m now?"'))
        p = subprocess.Popen([str(CLI), "run", str(self.dir / "w.yaml")], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True,
                             env=clean_env(self.dir, PHOTON_HUB=hub.url, PHOTON_TOKEN=hub.token, PHOTON_CA=hub.ca))
        self.addCleanup(lambda: p.poll() is None and p.kill())
        said = ""
        while "photon approve" not in said:
            line = p.stderr.readline()
            self.assertTrue(line, said)
            said += line
        self.assertIn("gate asks: Deploy", said)
        self.assertNotIn("\x1b", said)
        cid = re.search(r"photon approve (\S+)", said).group(1)
        self.assertEqual(hub.cli("approve", cid).returncode, 0)
        out, err = p.communicate(timeout=60)
        self.assertEqual(p.returncode, 0, err)
        self.assertIn("approved by admin", err)
        events = [json.loads(x) for x in hub.cli("events", "-o", "json", "--after", "0").stdout.splitlines() if x.strip().startswith("{")]
        kinds = [e.get("type") for e in events]
        self.assertEqual([k for k in kinds if k and k.startswith("checkpoint.")], ["checkpoint.open", "checkpoint.decided"])


if __name__ == "__main__":
    unittest.main()
