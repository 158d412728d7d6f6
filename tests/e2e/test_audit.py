"""The audit, as an operator meets it: listed, exported, proved offline, and damaged."""
import json
import sqlite3
import unittest

from harness import CLI, HUB, World


class Audit(World):
    def used_hub(self):
        hub = self.hub()
        for _ in range(3):
            hub.cli("token", "create")
        hub.cli("token", "revoke", json.loads(hub.cli("token", "list", "-o", "json").stdout)[0]["id"])
        return hub

    def test_what_people_did_is_listed_exported_and_proved_without_the_hub(self):
        hub = self.used_hub()
        r = hub.cli("audit", "list", "-o", "json")
        records = json.loads(r.stdout)
        self.assertEqual([x["action"] for x in records][:4], ["join_token.revoke"] + 3 * ["join_token.create"])
        self.assertEqual({x["actor"] for x in records}, {"admin", "init", "hub"})
        self.assertIn("join_token.revoke", hub.cli("audit", "list", "--actor", "admin").stdout)
        r = hub.cli("audit", "verify")
        self.assertEqual(r.returncode, 0, r.stderr)
        head = r.stdout.split()[-1]
        r = hub.cli("audit", "export")
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertIn(head, r.stderr)
        good = self.dir / "audit.jsonl"
        good.write_text(r.stdout)
        hub.proc.stop()
        r = self.run_cmd(CLI, "audit", "verify", good)
        self.assertEqual((r.returncode, r.stdout.split()[-1]), (0, head), r.stderr)
        bad = self.dir / "bad.jsonl"
        bad.write_text(good.read_text().replace("join_token.revoke", "join_token.create"))
        r = self.run_cmd(CLI, "audit", "verify", bad)
        self.assertEqual(r.returncode, 1)
        self.assertRegex(r.stderr, r"audit record \d+ \(join_token.create\) does not follow")

    def test_a_damaged_chain_keeps_the_hub_from_serving_until_somebody_says_so(self):
        hub = self.used_hub()
        hub.proc.stop()
        with sqlite3.connect(hub.dir / "hub.db") as db:
            db.execute("UPDATE audit SET actor='nobody' WHERE seq=2")
        args = [HUB, "serve", "--data", hub.dir, "--agent-listen", "127.0.0.1:0", "--api-listen", "127.0.0.1:0"]
        r = self.run_cmd(*args)
        self.assertEqual(r.returncode, 1)
        self.assertIn("audit record 2", r.stderr)
        self.assertIn("--accept-damaged-audit", r.stderr)
        hub.args = ["--accept-damaged-audit"]
        hub.start()
        r = hub.cli("audit", "verify")
        self.assertEqual(r.returncode, 1)
        self.assertIn("audit record 2", r.stderr)
        self.assertIn("audit.damage_accepted", hub.cli("audit", "list").stdout)
        # It was accepted once: the next start needs no flag, and what comes after is still watched.
        hub.proc.stop()
        hub.args = []
        hub.start()
        hub.cli("token", "create")
        hub.proc.stop()
        with sqlite3.connect(hub.dir / "hub.db") as db:
            (last,) = db.execute("SELECT max(seq) FROM audit").fetchone()
            db.execute("UPDATE audit SET object='x' WHERE seq=?", (last,))
        r = self.run_cmd(*args)
        self.assertEqual(r.returncode, 1)
        self.assertIn(f"audit record {last}", r.stderr)

    def test_an_audit_that_was_emptied_is_damaged_too(self):
        hub = self.used_hub()
        hub.proc.stop()
        with sqlite3.connect(hub.dir / "hub.db") as db:
            db.execute("DELETE FROM audit")
        r = self.run_cmd(HUB, "serve", "--data", hub.dir, "--agent-listen", "127.0.0.1:0", "--api-listen", "127.0.0.1:0")
        self.assertEqual(r.returncode, 1)
        self.assertIn("the audit is empty", r.stderr)
        self.assertIn("--accept-damaged-audit", r.stderr)
        hub.args = ["--accept-damaged-audit"]
        hub.start()
        self.assertIn("audit.damage_accepted", hub.cli("audit", "list").stdout)
        hub.proc.stop()
        hub.args = []
        hub.start()
        self.assertEqual(hub.cli("audit", "verify").returncode, 0)

    def test_a_person_is_erased_and_the_proof_stays(self):
        hub = self.used_hub()
        r = hub.cli("audit", "erase", "--actor", "init")
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertNotIn('"init"', hub.cli("audit", "list", "-o", "json").stdout)
        self.assertEqual(hub.cli("audit", "verify").returncode, 0)
        for whom in ({"actor": ""}, {"object": ""}, {"actor": "hub"}):
            self.assertEqual(hub.api("POST", "/audit/erase", whom)[0], 400, whom)
        self.assertIn('"hub"', hub.cli("audit", "list", "-o", "json").stdout)
        r = hub.cli("audit", "erase")
        self.assertEqual(r.returncode, 64)
        token = hub.cli("api-token", "create", "--name", "eve", "--role", "operator").stdout.strip()
        status, doc = hub.api("GET", "/audit", token=token)
        self.assertEqual((status, "audit.read" in doc["detail"]), (403, True), doc)


if __name__ == "__main__":
    unittest.main()
