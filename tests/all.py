#!/usr/bin/env python3
"""`make test`: every part in turn, each with its time; what a part that fails said of its
failures, and at last, by name, all that failed, and the sum of all parts as `N passed, N failed`.
Whole outputs stay in BUILD/test-logs. A part without counts of its own (lint, fuzz) counts as one.

    tests/all.py [PART ...]
"""
import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = Path(os.environ.get("BUILD", "build"))
MAKE = os.environ.get("MAKE", "make")
COUNTS = re.compile(r"^(\d+) passed, (\d+) failed$", re.M)
SAID_MAX = 150  # lines shown of a part that failed

# How the runners begin a line about a failure (tests/lib/main.c, tests/e2e/run.py, tests/fuzz/run.sh), and
# how all other lines about a test begin.
FAILED = re.compile(r"^(?:FAIL|TIMEOUT) +(?:[\d.]+ s +)?(\S+)|^fuzz (\S+): FAILED")
OTHER = re.compile(r"^(?:ok|skip|flaky|SKIPPED|FLAKY|fuzz) ")


def parts():
    make = [MAKE, "--no-print-directory", f"-j{os.cpu_count() or 2}", f"BUILD={BUILD}"]
    yield "build", make + ["all", f"{BUILD}/tests/unit", f"{BUILD}/tests/tools", f"{BUILD}/tests/photon-hub-mcp"]
    for target in ("lint", "unit", "tools", "sim"):
        if target != "sim" or list((ROOT / "tests/sim").glob("*.c")):
            yield target, make + [target]
    if list((ROOT / "tests/cli").glob("test_*.py")):
        yield "cli", [sys.executable, "tests/e2e/run.py", "--dir", "tests/cli"]
    yield "deploy", [sys.executable, "tests/e2e/run.py", "--dir", "tests/deploy"]
    yield "e2e", [sys.executable, "tests/e2e/run.py"]
    yield "asan", make[:-1] + ["asan"]
    yield "tsan", make[:-1] + ["tsan"]
    yield "fuzz", make[:-1] + ["fuzz", "FUZZ_SECONDS=5"]


def failures(text):
    """Names of what failed for good, and the lines that say so with what followed each; without a name the last lines."""
    names, said, inside, held = [], [], False, re.findall(r"^FLAKY ([^\s:]+)", text, re.M)
    for line in text.splitlines():
        m = FAILED.match(line)
        if m:
            names.append(m.group(1) or m.group(2))
        inside = bool(m) or (inside and not OTHER.match(line) and not COUNTS.match(line))
        if inside:
            said.append(line)
    names = [n for n in dict.fromkeys(names) if n not in held]
    return names, said[:SAID_MAX] if said else text.splitlines()[-SAID_MAX:]


def main():
    wanted, logs = sys.argv[1:], ROOT / BUILD / "test-logs"
    known = dict(parts())
    if any(w not in known for w in wanted):
        print(f"parts are: {' '.join(known)}", file=sys.stderr)
        return 64
    logs.mkdir(parents=True, exist_ok=True)
    env = dict(os.environ, BUILD=str((ROOT / BUILD).resolve()))
    # A make of ours: its flags and job server are not those of the one that called us.
    for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL"):
        env.pop(name, None)
    passed = failed = 0
    broken, begin = [], time.monotonic()
    for name, cmd in known.items():
        if wanted and name not in wanted:
            continue
        start = time.monotonic()
        with open(logs / f"{name}.log", "wb") as log:
            rc = subprocess.run(cmd, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT).returncode
        text = (logs / f"{name}.log").read_text(errors="replace")
        found = COUNTS.findall(text)
        p, f = sum(int(a) for a, _ in found), sum(int(b) for _, b in found)
        if rc and not f:
            f = 1
        elif not rc and not found:
            p = 1
        passed, failed = passed + p, failed + f
        print(f"{'ok' if not f else 'FAIL':4} {name:7} {time.monotonic() - start:6.1f} s  {p} passed, {f} failed", flush=True)
        for line in re.findall(r"^(?:SKIPPED|FLAKY) .*$", text, re.M):
            print(f"     {line}", flush=True)
        if f:
            names, said = failures(text)
            broken += [f"{name}: {n}" for n in names] or [name]
            print("     " + "\n     ".join(said), flush=True)
            if name == "build":
                break
    print(f"{time.monotonic() - begin:.0f} s in all" + (f"; what failed (outputs in {BUILD}/test-logs):" if broken else ""))
    for b in broken:
        print(f"     {b}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
