"""The runner itself: what it makes of tests that fail, always or once."""
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

RUN = Path(__file__).resolve().parent / "run.py"
GOOD = "".join(f"    def test_good_{i}(self): pass\n" for i in range(30))


class Runner(unittest.TestCase):
    def run_tests(self, body):
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "test_x.py").write_text("import os, unittest\nfrom pathlib import Path\n\n"
                                                 f"class X(unittest.TestCase):\n{GOOD}{body}", encoding="utf-8")
            r = subprocess.run([sys.executable, RUN, "--dir", folder], capture_output=True, text=True, timeout=300,
                               env=dict(os.environ, ONCE=folder))
        return r.returncode, r.stdout

    def once(self, name):
        return (f"    def test_{name}(self):\n        m = Path(os.environ['ONCE'], '{name}')\n"
                "        if not m.exists():\n            m.touch()\n            self.fail('the first time')\n")

    def test_who_fails_always_is_refused_by_name(self):
        rc, said = self.run_tests("    def test_bad(self): self.fail('never')\n")
        self.assertEqual((rc, said.splitlines()[-1]), (1, "30 passed, 1 failed"))
        self.assertRegex(said, r"(?m)^FAIL .*test_x\.X\.test_bad$")
        self.assertNotIn("FLAKY", said)

    def test_who_fails_once_is_named_and_what_it_said_is_shown(self):
        rc, said = self.run_tests(self.once("odd"))
        self.assertEqual((rc, said.splitlines()[-1]), (0, "31 passed, 0 failed"))
        self.assertIn("FLAKY test_x.X.test_odd: failed beside others, held alone", said)
        self.assertIn("the first time", said)

    def test_three_that_fail_once_are_no_accident(self):
        rc, said = self.run_tests(self.once("a") + self.once("b") + self.once("c"))
        self.assertEqual((rc, said.splitlines()[-1]), (1, "30 passed, 3 failed"))
        self.assertNotIn("FLAKY", said)


if __name__ == "__main__":
    unittest.main()
