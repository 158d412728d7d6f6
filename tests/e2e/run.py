#!/usr/bin/env python3
"""Runs the tests of a folder, each in a process of its own, a few at a time (a class that
has setUpClass stays together). Prints one line a test, what failing ones said, why some
were skipped, and at the end `N passed, N failed`.

Where one or two of many fail, each is run once more alone: one that holds then is named FLAKY
and counts as passed. More than that is no accident.

    tests/e2e/run.py [-j N] [--dir FOLDER] [--timeout SECONDS] [--list] [PART-OF-A-NAME ...]
"""
import argparse
import concurrent.futures
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
FLAKY_MAX = 2


def leaves(suite):
    for t in suite:
        if isinstance(t, unittest.TestSuite):
            yield from leaves(t)
        else:
            yield t


def units_of_work(folder, filters):
    """Ids for `python3 -m unittest`: single tests, or a class. A file that cannot be
    imported is a test that fails."""
    sys.path.insert(0, str(HERE))  # harness.py, for other folders too
    sys.path.insert(0, str(folder))
    out = []
    for t in leaves(unittest.TestLoader().discover(str(folder), "test_*.py", top_level_dir=str(folder))):
        name = t.id()
        if filters and not any(f in name for f in filters):
            continue
        cls = type(t)
        own = cls.__dict__.get("setUpClass") or any("setUpClass" in b.__dict__ for b in cls.__mro__
                                                    if b not in (unittest.TestCase, object))
        if own:
            name = f"{cls.__module__}.{cls.__qualname__}"
        if name.startswith("unittest.loader._FailedTest."):
            name = name.rsplit(".", 1)[1]
        if name not in out:
            out.append(name)
    return out


def run_one(name, folder, timeout):
    env = dict(os.environ, PYTHONPATH=f"{folder}:{HERE}", PYTHONDONTWRITEBYTECODE="1")
    start = time.monotonic()
    with tempfile.TemporaryFile() as log:
        p = subprocess.Popen([sys.executable, "-m", "unittest", "-v", name], cwd=folder, env=env, stdin=subprocess.DEVNULL,
                             stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            rc = p.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(p.pid, signal.SIGKILL)  # the test's own session: nobody else is in it
            p.wait()
            rc = None
        log.seek(0)
        text = log.read().decode(errors="replace")
    return name, rc, text, time.monotonic() - start


def count(rc, text):
    """(passed, failed, skipped) of one process."""
    m = re.search(r"^Ran (\d+) tests? in", text, re.M)
    ran = int(m.group(1)) if m else 0
    last = re.findall(r"^(?:OK|FAILED)(?: \(([^)]*)\))?$", text, re.M)
    got = dict(re.findall(r"(\w+)=(\d+)", last[-1])) if last else {}
    skipped = int(got.get("skipped", 0))
    failed = int(got.get("failures", 0)) + int(got.get("errors", 0))
    if rc != 0 and not failed:
        failed = 1
    return max(ran - failed - skipped, 0), failed, skipped


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("-j", type=int, default=2, metavar="N")
    a.add_argument("--dir", type=Path, default=HERE)
    a.add_argument("--timeout", type=float, default=600 * float(os.environ.get("E2E_SLOW", "1")))
    a.add_argument("--list", action="store_true")
    a.add_argument("filters", nargs="*")
    o = a.parse_args()
    folder = o.dir.resolve()
    names = units_of_work(folder, o.filters)
    if o.list:
        print("\n".join(names))
        return 0
    passed, broken, skips = 0, {}, []

    def take(name, rc, text, secs):
        nonlocal passed, skips
        p, bad, s = count(rc, text)
        passed += p
        word = "TIMEOUT" if rc is None else "FAIL" if bad else "skip" if s and not p else "ok"
        print(f"{word:7} {secs:6.1f} s  {name}", flush=True)
        skips += [f"{name}: {why}" for why in re.findall(r"skipped ['\"](.*)['\"]$", text, re.M)]
        if bad:
            broken[name] = (p, bad)
            print("    " + "\n    ".join(text[-12000:].splitlines()), flush=True)

    with concurrent.futures.ThreadPoolExecutor(o.j) as pool:
        for f in concurrent.futures.as_completed([pool.submit(run_one, n, folder, o.timeout) for n in names]):
            take(*f.result())
    if len(broken) <= FLAKY_MAX and passed >= 10 * len(broken):
        for name, (p, _) in list(broken.items()):
            del broken[name]
            passed -= p
            take(*run_one(name, folder, o.timeout))
            if name not in broken:
                print(f"FLAKY {name}: failed beside others, held alone")
    failed = sum(bad for _, bad in broken.values())
    for s in skips:
        print(f"SKIPPED {s}")
    if not names:
        print("no test has such a name", file=sys.stderr)
        failed = 1
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
