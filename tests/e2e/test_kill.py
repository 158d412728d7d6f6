"""kill -9, again and again: the hub and the agents die at random while real workflows run."""
import hashlib
import json
import os
import random
import re
import time

from harness import ROOT, World, wait_for

SEED = int(os.environ.get("E2E_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 30)
INSTANCES = sorted((ROOT / "tests/data/wfinstances").glob("*.json"))


class Kill(World):
    def setUp(self):
        super().setUp()
        self.rnd = random.Random(SEED)
        print(f"seed {SEED} (E2E_SEED={SEED} repeats it)")

    def import_instance(self, hub, path, scale, *more):
        out = self.dir / (path.stem + ".workflow.json")
        r = hub.cli("import", "wfformat", path, "--scale", str(scale), *more)
        self.assertEqual(r.returncode, 0, r.stderr)
        out.write_text(r.stdout)
        return out

    def check_dependencies(self, doc):
        by_id = {s["id"]: s for s in doc["steps"]}
        for s in doc["steps"]:
            for n in s["needs"]:
                self.assertLessEqual(by_id[n]["finished_at"], s["dispatched_at"] if "dispatched_at" in s else s["started_at"],
                                     f"{s['id']} before {n}")

    def test_wfinstances_run_on_three_agents(self):
        hub = self.hub()
        self.three(hub)
        for path in INSTANCES:
            with self.subTest(path.name):
                wf = self.import_instance(hub, path, 0.001, "--max-bytes", "20000")
                doc = hub.wait_run(hub.submit(wf.read_text()), 180)
                self.assertEqual(doc["state"], "succeeded", [s for s in doc["steps"] if s["state"] != "succeeded"][:3])
                spec = json.loads(path.read_text())["workflow"]["specification"]["tasks"]
                self.assertEqual(len(doc["steps"]), len(spec))
                self.check_dependencies(doc)

    def test_a_real_workflow_survives_twenty_kills_with_all_its_bytes(self):
        hub = self.hub("--lost-after", "3s")
        agents = self.three(hub)
        wf = self.import_instance(hub, INSTANCES[0], 0.03).read_text()
        bytes_of = {i: int(n) for i, n in re.findall(r'- id: "([^"]+)"(?:(?!- id: ).)*?head -c (\d+)', wf, re.S)}
        self.assertGreater(len(bytes_of), 10)
        run = hub.submit(wf)
        for k in range(20):
            time.sleep(self.rnd.random() * 0.4)
            hub.kill9()
            if k % 5 == 4:
                a = self.rnd.choice(agents)
                a.kill9()
                a.start(online=False)
            hub.restart()
        doc = hub.wait_run(run, 180)
        self.assertEqual(doc["state"], "succeeded", [s for s in doc["steps"] if s["state"] != "succeeded"][:3])
        self.check_dependencies(doc)
        for s in doc["steps"]:
            want = bytes_of.get(s["id"], 0)
            got = hub.cli("logs", run, s["id"], text=False).stdout
            line = b"0123456789abcdef\n"
            self.assertEqual((len(got), got == (line * (want // len(line) + 1))[:want]), (want, True), s["id"])

    def test_hub_and_agents_killed_again_and_again(self):
        hub = self.hub("--lost-after", "3s")
        agents = self.three(hub)
        marks = self.dir / "marks"
        marks.mkdir()
        steps = []
        for i in range(60):
            needs = sorted({f"s{self.rnd.randrange(i)}" for _ in range(self.rnd.randrange(3))}) if i else []
            once = self.rnd.random() < 0.3
            steps.append({"id": f"s{i}", "needs": needs, "effect": "at-most-once" if once else "idempotent",
                          # a file per start says how often it really ran; the output is known to the byte
                          "run": f"f=$(mktemp {marks}/s{i}.XXXXXX); sleep 0.{self.rnd.randrange(1, 6)}; "
                                 f"i=0; while [ $i -lt 200 ]; do echo s{i}-$i-{'x' * 50}; i=$((i+1)); done"})
        run = hub.submit({"name": "kill", "steps": steps})
        acknowledged = [run]
        for k in range(20):
            time.sleep(self.rnd.random() * 0.4)
            hub.kill9()
            if k % 4 == 3:
                a = self.rnd.choice(agents)
                a.kill9()
                a.start(online=False)
            hub.restart()
            acknowledged.append(hub.submit({"name": f"extra{k}", "steps": [{"id": "a", "effect": "pure", "run": "echo extra"}]}))
        forgiven = {}

        def over():
            doc = hub.run_json(run)
            for s in doc["steps"]:
                if s["state"] == "unknown":
                    self.assertEqual(steps[int(s["id"][1:])]["effect"], "at-most-once")
                    # the person looks: it ran or it did not; here it is always run again, knowingly
                    forgiven[s["id"]] = len(list(marks.glob(s["id"] + ".*")))
                    hub.api("POST", f"/runs/{run}/steps/{s['id']}/resolve", {"outcome": "retry"})
            return doc if doc["state"] in ("succeeded", "failed", "cancelled") else None

        doc = wait_for("the run to end", over, 180)
        bad = [s for s in doc["steps"] if s["state"] != "succeeded"]
        self.assertEqual(doc["state"], "succeeded", bad[:3])
        self.check_dependencies(doc)
        for s in doc["steps"]:
            ran = len(list(marks.glob(s["id"] + ".*")))
            if steps[int(s["id"][1:])]["effect"] == "at-most-once":
                self.assertLessEqual(ran, 1 + forgiven.get(s["id"], 0), f"{s['id']} ran {ran} times")
            self.assertGreaterEqual(ran, 1)
            want = "".join(f"{s['id']}-{i}-{'x' * 50}\n" for i in range(200)).encode()
            got = hub.cli("logs", run, s["id"], text=False).stdout
            self.assertEqual(hashlib.sha256(got).hexdigest(), hashlib.sha256(want).hexdigest(), f"output of {s['id']}: {got[:100]!r} {len(got)} of {len(want)}")
        for r in acknowledged[1:]:
            self.assertEqual(hub.wait_run(r, 60)["state"], "succeeded")


if __name__ == "__main__":
    import unittest
    unittest.main()
