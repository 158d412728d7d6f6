"""Questions to people: a real agent asks, the hub keeps the question, a person answers, the tool goes on."""
import hashlib
import json
import re
import subprocess
import threading
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


if __name__ == "__main__":
    unittest.main()
