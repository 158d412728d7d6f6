"""Certificates live and are renewed; an agent that slept comes back by its key; revocation is for good."""
import json
import time
import unittest

from harness import Agent, World, _Ctx, wait_for


def expires(hub, name):
    return hub.agents()[name]["certificate_expires_at"]


class Identity(World):
    def test_certificates_renew_on_the_live_connection(self):
        hub = self.hub("--certificate-life", "6s")
        a = self.agent(hub, "a1")
        first = hub.agents()["a1"]
        wait_for("a newer certificate", lambda: expires(hub, "a1") > first["certificate_expires_at"], 10)
        again = expires(hub, "a1")
        wait_for("another one", lambda: expires(hub, "a1") > again, 10)
        now = hub.agents()["a1"]
        self.assertEqual((now["state"], now["connected_at"], now["id"]), ("online", first["connected_at"], first["id"]))
        self.assertTrue(a.proc.alive())

    def test_an_agent_that_slept_past_expiry_rejoins_with_its_key(self):
        hub = self.hub("--certificate-life", "3s")
        a = self.agent(hub, "a1")
        before = hub.agents()["a1"]["id"]
        a.proc.stop()
        time.sleep(3.5)  # the certificate's life, not a synchronisation
        a.token = None
        a.start()
        self.assertEqual(hub.agents()["a1"]["id"], before)
        doc = hub.wait_run(hub.submit({"name": "r", "steps": [{"id": "a", "run": "echo back"}]}), 30)
        self.assertEqual(doc["state"], "succeeded")

    def test_a_revoked_agent_does_not_come_back_by_sleeping(self):
        hub = self.hub("--certificate-life", "3s")
        a = self.agent(hub, "a1")
        a.proc.stop()
        self.assertEqual(hub.cli("agent", "revoke", "a1").returncode, 0)
        time.sleep(3.5)  # the certificate's life
        a.token = None
        a.start(online=False)
        wait_for("the agent to hear that it was revoked", lambda: "revoked" in a.proc.text(), 20)
        self.assertEqual(hub.agents()["a1"]["state"], "revoked")

    def test_names_are_kept_apart_and_patterns_hold(self):
        hub = self.hub()
        self.agent(hub, "a1")
        token = hub.join_token(uses=5, name="web-*")
        bad = Agent(_Ctx(self), hub, "db-1", token=token)
        r = bad.join("--timeout", "5s")
        self.assertNotEqual(r.returncode, 0)
        self.assertIn("web-*", r.stderr)
        self.assertEqual(Agent(_Ctx(self), hub, "web-1", token=token).join().returncode, 0)
        other = Agent(_Ctx(self), hub, "a1", token=hub.join_token())
        other.dir = self.dir / "other"
        r = other.join("--timeout", "5s")
        self.assertNotEqual(r.returncode, 0)
        self.assertIn("a1", r.stderr)

    def test_joining_shows_what_the_machine_allows(self):
        hub = self.hub()
        a = Agent(_Ctx(self), hub, "a1", token=hub.join_token())
        r = a.join()
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertIn("what the hub may do on this machine", r.stdout.lower())
        self.assertTrue((a.dir / "policy.yaml").exists())
        r = self.run_program(str(__import__("harness").AGENT), "doctor", "--data", a.dir)
        self.assertEqual(r.returncode, 0, r.stdout + r.stderr)
        r = self.run_program(str(__import__("harness").AGENT), "status", "--data", a.dir, "-o", "json")
        self.assertEqual(json.loads(r.stdout)["name"], "a1")

    def test_draining_takes_no_new_work_and_labels_steer(self):
        hub = self.hub()
        self.agent(hub, "a1")
        self.assertEqual(hub.cli("agent", "drain", "a1").returncode, 0)
        run = hub.submit({"name": "d", "steps": [{"id": "a", "runs-on": {"tier": "gold"}, "run": "true"}]})
        r = hub.cli("run", "explain", run)
        self.assertRegex(r.stdout, r"tier|drain")
        self.assertEqual(hub.cli("agent", "label", "a1", "tier=gold").returncode, 0)
        self.assertEqual(hub.run_json(run)["steps"][0]["state"], "ready")
        self.assertEqual(hub.cli("agent", "undrain", "a1").returncode, 0)
        self.assertEqual(hub.wait_run(run, 20)["state"], "succeeded")


if __name__ == "__main__":
    unittest.main()
