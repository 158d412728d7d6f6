"""A row that somebody else has written into the database starts nothing, and a step that is not signed for this
session is not run. The hub is stopped, rows are changed with SQL, the hub is started again."""
import sqlite3
import unittest
from pathlib import Path

from harness import World, wait_for


class Tampered(World):
    def begin(self):
        """A run whose first step is over, whose second one runs until it is let go, and whose third would leave a
        mark; the hub is stopped in the middle of it."""
        self.mark, self.evil, self.go = (self.dir / n for n in ("mark", "evil", "go"))
        hub = self.hub()
        self.agent(hub, "a1")
        wf = {"name": "w", "inputs": {"word": {"type": "string", "default": "fair"}}, "steps": [
            {"id": "first", "run": "echo said=good >> $PHOTON_OUTPUT"},
            {"id": "hold", "needs": ["first"], "effect": "idempotent",
             "run": f"touch {self.dir}/held; while [ ! -e {self.go} ]; do sleep 0.05; done"},
            {"id": "after", "needs": ["first", "hold"],
             "run": f"echo ${{{{ steps.first.outputs.said }}}} ${{{{ inputs.word }}}} > {self.mark}"}]}
        run = hub.submit(wf, word="fair")
        wait_for("the second step to run", lambda: (self.dir / "held").exists())
        wait_for("the hub to know", lambda: hub.run_json(run)["steps"][1]["state"] == "running")
        hub.proc.stop()
        return hub, run

    def sql(self, hub, *statements):
        with sqlite3.connect(hub.dir / "hub.db") as db:
            for s in statements:
                cur = db.execute(s)
                self.assertNotEqual(cur.rowcount, 0, s)
        db.close()

    def refused(self, hub, run, row, step=""):
        """The run is over for that reason, all hear of it, and nothing was done."""
        hub.start()
        self.go.touch()
        doc = hub.wait_run(run)
        self.assertEqual((doc["state"], doc["error"]["code"]), ("failed", "step_signature"), doc)
        self.assertIn(row, doc["error"]["message"])
        self.assertEqual(doc["workflow"], "w")
        self.assertIn(doc["steps"][1]["state"], ("cancelled", "succeeded"), doc)  # the latter if that is what was written
        self.assertEqual(doc["steps"][2]["state"], "skipped", doc)
        records = [r for r in hub.api("GET", "/audit")[1]["items"] if r["action"] == "row.refused"]
        self.assertEqual([r["object"] for r in records], [f"{run}/{step}" if step else run])
        status, text, _ = hub.api("GET", f"/runs/{run}/events?follow=false", raw=True)
        self.assertIn(b"row.refused", text, status)
        self.assertFalse(self.mark.exists())
        self.assertFalse(self.evil.exists())
        # The hub is as good as before for everybody else.
        other = hub.wait_run(hub.submit({"name": "x", "steps": [{"id": "s", "run": "echo on"}]}))
        self.assertEqual(other["state"], "succeeded")

    def test_untouched_it_goes_on(self):
        hub, run = self.begin()
        hub.start()
        self.go.touch()
        self.assertEqual(hub.wait_run(run)["state"], "succeeded")
        self.assertEqual(self.mark.read_text(), "good fair\n")

    def test_another_definition(self):
        hub, run = self.begin()
        self.sql(hub, f"UPDATE defs SET text = replace(CAST(text AS TEXT), '{self.mark}', '{self.evil}') "
                      f"WHERE CAST(text AS TEXT) LIKE '%{self.mark}%'")
        self.refused(hub, run, "definition")

    def test_another_definition_under_its_own_hash(self):
        import hashlib
        hub, run = self.begin()
        with sqlite3.connect(hub.dir / "hub.db") as db:
            text = db.execute("SELECT CAST(text AS TEXT) FROM defs WHERE sha256 = "
                              "(SELECT def_sha256 FROM runs WHERE id = ?)", (run,)).fetchone()[0]
            text = text.replace(str(self.mark), str(self.evil))
            sha = hashlib.sha256(text.encode()).hexdigest()
            db.execute("INSERT INTO defs VALUES(?, ?)", (sha, text.encode()))
            db.execute("UPDATE runs SET def_sha256 = ? WHERE id = ?", (sha, run))
        db.close()
        self.refused(hub, run, "row")

    def test_another_input(self):
        hub, run = self.begin()
        self.sql(hub, f"UPDATE runs SET inputs = '{{\"word\":\"foul\"}}' WHERE id = '{run}'")
        self.refused(hub, run, "row")

    def test_another_person_or_project(self):
        for column, value in (("created_by", "mallory"), ("project", "mallory"), ("askers", '["mallory"]')):
            with self.subTest(column):
                hub, run = self.begin()
                self.sql(hub, f"UPDATE runs SET {column} = '{value}' WHERE id = '{run}'")
                hub.start()
                self.go.touch()
                self.assertEqual(hub.wait_run(run)["error"]["code"], "step_signature")
                for f in self.dir.glob("held"):
                    f.unlink()
                self.go.unlink()
                hub.proc.stop()
                self.assertFalse(self.mark.exists())
                for p in self.procs:
                    p.kill9()
                for f in ("hub", "agent-a1"):
                    Path(self.dir / f).rename(self.dir / f"{f}-{column}")

    def test_a_step_that_is_said_to_be_over(self):
        hub, run = self.begin()
        self.sql(hub, "UPDATE steps SET state = (SELECT state FROM steps WHERE id = 'first') WHERE id = 'hold'")
        self.refused(hub, run, "row", "hold")

    def test_another_output(self):
        hub, run = self.begin()
        self.sql(hub, "UPDATE steps SET outputs = replace(outputs, 'good', 'evil') WHERE id = 'first'")
        self.refused(hub, run, "row", "first")

    def test_another_count_of_attempts(self):
        hub, run = self.begin()
        self.sql(hub, "UPDATE steps SET attempt = 0 WHERE id = 'hold'")
        self.refused(hub, run, "row", "hold")

    def test_no_seal_or_that_of_another_row(self):
        hub, run = self.begin()
        self.sql(hub, "UPDATE steps SET seal = NULL WHERE id = 'hold'")
        self.refused(hub, run, "row", "hold")

    def test_the_seal_of_another_row(self):
        hub, run = self.begin()
        self.sql(hub, "UPDATE steps SET seal = (SELECT seal FROM steps WHERE id = 'first') WHERE id = 'after'")
        self.refused(hub, run, "row", "after")

    def test_a_finished_run_that_is_tried_again(self):
        hub = self.hub()
        self.agent(hub, "a1")
        self.evil = self.dir / "evil"
        run = hub.submit({"name": "w", "inputs": {"f": {"type": "string"}},
                          "steps": [{"id": "s", "run": "touch ${{ inputs.f }}; exit 1"}]}, f=f"{self.dir}/good")
        self.assertEqual(hub.wait_run(run)["state"], "failed")
        hub.proc.stop()
        self.sql(hub, f"UPDATE runs SET inputs = '{{\"f\":\"{self.evil}\"}}' WHERE id = '{run}'")
        hub.start()
        r = hub.cli("run", "retry", run)
        self.assertNotEqual(r.returncode, 0)
        self.assertIn("not as this hub wrote it", r.stderr)
        self.assertFalse(self.evil.exists())

    def test_a_decision_that_nobody_made(self):
        hub = self.hub()
        self.agent(hub, "a1")
        self.mark = self.dir / "mark"
        run = hub.submit({"name": "w", "steps": [
            {"id": "ask", "approval": {"question": "Shall we?"}},
            {"id": "do", "needs": ["ask"], "run": f"touch {self.mark}"}]})
        wait_for("the question", lambda: hub.api("GET", "/checkpoints")[1]["items"])
        hub.proc.stop()
        self.sql(hub, "UPDATE checkpoints SET arguments = replace(arguments, 'Shall', 'Will')")
        hub.start()
        doc = hub.wait_run(run)
        self.assertEqual(doc["state"], "failed", doc)
        self.assertEqual(doc["steps"][0]["error"]["code"], "step_signature", doc)
        self.assertFalse(self.mark.exists())

    def test_rows_from_before_there_were_seals_are_taken_once(self):
        hub, run = self.begin()
        (hub.dir / "step.key").unlink()
        self.sql(hub, "UPDATE steps SET seal = NULL", "UPDATE runs SET seal = NULL")
        hub.start()
        hub.proc.stop()
        with sqlite3.connect(hub.dir / "hub.db") as db:
            self.assertEqual(db.execute("SELECT count(*) FROM steps WHERE seal IS NULL").fetchone()[0], 0)
        db.close()
        hub.start()
        self.go.touch()
        self.assertEqual(hub.wait_run(run)["state"], "succeeded")

    def test_another_key_is_another_hub_for_rows_and_none_for_agents(self):
        hub, run = self.begin()
        (hub.dir / "step.key").unlink()
        hub.start()
        self.go.touch()
        self.assertEqual(hub.wait_run(run)["error"]["code"], "step_signature")
        # The agent trusts the new key, by the authority that it has pinned.
        new = hub.wait_run(hub.submit({"name": "x", "steps": [{"id": "s", "run": "echo on"}]}))
        self.assertEqual(new["state"], "succeeded")

    def test_a_key_that_others_may_read_is_not_used(self):
        hub = self.hub()
        hub.proc.stop()
        (hub.dir / "step.key").chmod(0o644)
        with self.assertRaises(AssertionError) as e:
            hub.start()
        self.assertIn("chmod 600", str(e.exception))


if __name__ == "__main__":
    unittest.main()
