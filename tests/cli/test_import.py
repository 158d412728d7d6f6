"""photon import wfformat: real instances, generated ones, and what is wrong with wrong ones."""
import json
import random
import subprocess
import tempfile
import unittest
from pathlib import Path

from fakehub import PHOTON, ROOT

DATA = ROOT / "tests/data/wfinstances"


def instance(tasks, execution=None, files=(), version="1.5"):
    wf = {"specification": {"tasks": tasks, "files": list(files)}}
    if execution is not None:
        wf["execution"] = {"makespanInSeconds": 1, "executedAt": "x", "tasks": execution}
    return {"name": "gen", "schemaVersion": version, "workflow": wf}


def task(i, parents=None, children=None, **more):
    t = {"id": str(i), "name": f"n{i}"}
    if parents is not None:
        t["parents"] = [str(p) for p in parents]
    if children is not None:
        t["children"] = [str(c) for c in children]
    return dict(t, **more)


class Import(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory(prefix="photon-import-")
        self.addCleanup(scratch.cleanup)
        self.dir = Path(scratch.name)

    def photon(self, source, *args):
        if not isinstance(source, Path):
            path = self.dir / "in.json"
            path.write_text(source if isinstance(source, str) else json.dumps(source))
            source = path
        return subprocess.run([PHOTON, "import", "wfformat", source, *map(str, args)], capture_output=True, text=True, timeout=60, cwd=self.dir,
                              stdin=subprocess.DEVNULL)

    def steps(self, source, *args):
        r = self.photon(source, "-o", "json", *args)
        self.assertEqual(r.returncode, 0, r.stderr)
        return json.loads(r.stdout)["steps"]

    def refused(self, source, *texts, status=1):
        r = self.photon(source)
        self.assertEqual((r.returncode, r.stdout), (status, ""), r.stderr)
        for t in texts:
            self.assertIn(t, r.stderr)

    def test_real_instances_keep_shape_times_and_bytes(self):
        for path in sorted(DATA.glob("*.json")):
            wf = json.loads(path.read_text())["workflow"]
            tasks = wf["specification"]["tasks"]
            times = {t["id"]: t["runtimeInSeconds"] for t in wf["execution"]["tasks"]}
            size = {f["id"]: f["sizeInBytes"] for f in wf["specification"]["files"]}
            steps = self.steps(path, "--scale", "0.5")
            self.assertEqual([s["id"] for s in steps], [t["id"] for t in tasks])
            for s, t in zip(steps, tasks):
                self.assertEqual(set(s.get("needs", [])), set(t["parents"]))
                text = " ".join(s["with"]["argv"])
                total = sum(size[f] for f in t["outputFiles"])
                self.assertEqual(f"head -c {total}" in text, total > 0)
                if times[t["id"]]:
                    self.assertAlmostEqual(float(text.split("sleep ")[1].split()[0]), times[t["id"]] * 0.5, places=5)
                self.assertEqual((s["effect"], s["uses"]), ("idempotent", "process.exec"))

    def test_steps_write_exactly_their_bytes(self):
        for n in (0, 1, 17, 100_000, 3_000_000):
            argv = self.steps(instance([task(1, [], [], outputFiles=["f"])], [], [{"id": "f", "sizeInBytes": n}]))[0]["with"]["argv"]
            r = subprocess.run(argv, capture_output=True, timeout=20)
            self.assertEqual((r.returncode, len(r.stdout), r.stderr), (0, n, b""))

    def test_which_bytes(self):
        src = instance([task(1, outputFiles=["f", "g"]), task(2, outputFiles=[]), task(3)],
                       [{"id": str(i), "writtenBytes": 7000 + i} for i in (1, 2, 3)], [{"id": "f", "sizeInBytes": 10}])

        def sizes(*args):
            out = []
            for s in self.steps(src, *args):
                text = " ".join(s["with"]["argv"])
                out.append(int(text.split("head -c ")[1].split()[0]) if "head" in text else 0)
            return out

        self.assertEqual(sizes(), [10, 0, 7003])
        self.assertEqual(sizes("--bytes", "written"), [7001, 7002, 7003])
        self.assertEqual(sizes("--bytes", "none"), [0, 0, 0])
        self.assertEqual(sizes("--bytes", "written", "--max-bytes", "4KiB"), [4096] * 3)

    def test_either_side_of_a_dependency_is_enough(self):
        both = self.steps(instance([task(1, [], [2]), task(2, [1], [])]))
        for tasks in ([task(1), task(2, [1])], [task(1, children=[2]), task(2)]):
            self.assertEqual(self.steps(instance(tasks)), both)
        r = self.photon(instance([task(1, [], []), task(2, [1], [3]), task(3, [2], [])]), "-O", "out.yaml")
        self.assertIn("1 dependencies are stated by only one", r.stderr)
        self.assertEqual((r.returncode, r.stdout), (0, ""))
        self.assertIn("needs: [\"1\"]", (self.dir / "out.yaml").read_text())

    def test_parents_may_be_named_by_name(self):
        tasks = [{"id": "x1", "name": "first"}, {"id": "x2", "name": "second", "parents": ["first"]}]
        self.assertEqual(self.steps(instance(tasks))[1]["needs"], ["x1"])

    def test_odd_ids_become_safe_unique_ones(self):
        ids = ["a b", "a_b", "ä", "ö", "..x", "-y", "${{ evil }}", "x" * 300, "x" * 301, "quote\"'\\", "new\nline", "日本語"]
        tasks = [task(i, [ids[n - 1]] if n else []) for n, i in enumerate(ids)]
        steps = self.steps(instance(tasks))
        self.assertEqual(len({s["id"] for s in steps}), len(ids))
        for n, s in enumerate(steps):
            self.assertRegex(s["id"], r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")
            self.assertEqual(s.get("needs", []), [steps[n - 1]["id"]] if n else [])
            self.assertNotIn("${{", json.dumps(s))
        for n in (1, 100, 128):
            self.assertEqual(self.steps(instance([task("y" * n)]))[0]["id"], "y" * n)
        # A safe id stays, also when one before it would become the same.
        self.assertEqual([s["id"] for s in steps[:2]], ["a_b-2", "a_b"])
        ends = [s["id"] for s in self.steps(instance([task("z" * 200 + f"_{i}") for i in range(30)]))]
        self.assertTrue(all(e.endswith(f"z_{i}") for i, e in enumerate(ends)))
        same = [s["id"] for s in self.steps(instance([task("é" * 200 + "ü" * i) for i in range(30)]))]
        self.assertEqual((len(set(same)), max(map(len, same)) <= 128), (30, True))

    def test_what_is_missing_counts_as_nothing(self):
        r = self.photon({"workflow": {"specification": {"tasks": [{"id": "a"}, {"name": "b"}]}}})
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertIn("2 tasks have no measured runtime", r.stderr)
        self.assertNotIn("sleep", r.stdout)
        self.assertEqual(self.photon(instance([task(1)], [{"id": "1", "runtimeInSeconds": None, "command": {}}])).returncode, 0)

    def test_thousands_of_tasks(self):
        rnd = random.Random(5)
        tasks = [task(i, sorted({rnd.randrange(i) for _ in range(3)}) if i else []) for i in range(10_000)]
        ex = [{"id": str(i), "runtimeInSeconds": 1.5} for i in range(10_000)]
        steps = self.steps(instance(tasks, ex), "--scale", "1e-3")
        self.assertEqual(len(steps), 10_000)
        self.assertEqual(steps[9999]["needs"], tasks[9999]["parents"])
        self.assertEqual(steps[7]["with"]["argv"], ["sleep", "0.0015"])
        fan = [task("root", [])] + [task(i, ["root"]) for i in range(5000)] + [task("end", range(5000))]
        self.assertEqual(len(self.steps(instance(fan))[-1]["needs"]), 5000)

    def test_wrong_ones_are_refused_with_the_reason(self):
        self.refused(instance([task(1), task(1)]), "two tasks have the id \"1\"")
        self.refused(instance([task(1, [2])]), "names \"2\"")
        self.refused(instance([task(1, [1])]), "itself")
        self.refused(instance([task(1, [3]), task(2, [1]), task(3, [2])]), "circle")
        self.refused(instance([task(1)], [{"id": "1"}, {"id": "1"}]), "twice")
        self.refused(instance([task(1)], [{"id": "1", "runtimeInSeconds": -1}]), "runtimeInSeconds")
        self.refused(instance([task(1)], [{"id": "1", "runtimeInSeconds": "5"}]), "runtimeInSeconds")
        self.refused(instance([task(1)], files=[{"id": "f", "sizeInBytes": "big"}]), "sizeInBytes")
        self.refused(instance([{"x": 1}]), "number 1 has no \"id\"")
        self.refused(instance([]), "no tasks")
        self.refused(instance([task(i) for i in range(20_001)]), "20000")
        self.refused(instance([task(1)], version="1.4"), "WfFormat 1.4", "1.5")
        self.refused({"schemaVersion": "1.3", "workflow": {"tasks": []}}, "1.3")
        self.refused({"workflow": {"tasks": []}}, "older")
        self.refused([], "no WfFormat")
        self.refused("{\"a\":\n [1,}", "in.json:2:")
        self.refused(self.dir / "absent.json", "absent.json")


if __name__ == "__main__":
    unittest.main()
