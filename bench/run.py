#!/usr/bin/env python3
"""make bench: the figures of the project beside their targets and their peers, in one run.

    bench/run.py [--build DIR] [--scratch DIR] [--rounds N] [PART]...

Prints one JSON document on stdout (machine, figures, what else was seen) and a table
for people on stderr. Parts: rpc latency dispatch output idle swarm store peers
tools ai control;
without a name all of them. It measures and never judges by its exit status: a figure that falls
short has "met": false.
"""
import argparse
import datetime
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import parts  # noqa: E402
import ai  # noqa: E402, F401 (adds its parts)
import control  # noqa: E402, F401
import tools  # noqa: E402, F401
import world  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]


class Figures:
    """Collects figures. A target is about the value, or, with `beside`, about value / the peer's value."""

    def __init__(self):
        self.list = []
        self.seen = {}

    def add(self, name, value, unit, target=None, beside=None, note=None):
        f = {"name": name, "value": value, "unit": unit}
        compared = value
        if beside:
            f["peer"], f["peer_value"] = beside
            if beside[1]:
                compared = f["ratio"] = round(value / beside[1], 3)
            else:
                compared = None
        if target:
            op, limit = target
            f["target"] = f"{'ratio ' if beside else ''}{op} {limit:g}"
            f["met"] = None if compared is None else bool(compared <= limit if op == "<=" else compared >= limit)
        if note:
            f["note"] = note
        self.list.append(f)
        print(self.row(f), file=sys.stderr, flush=True)

    @staticmethod
    def row(f):
        beside = f"{f['peer_value']:g} ({f['peer']})" if f.get("peer_value") else "-"
        met = {True: "met", False: "SHORT", None: "no peer"}[f["met"]] if "met" in f else ""
        ratio = f"{f['ratio']:.2f}x" if "ratio" in f else ""
        return f"{f['name']:<34} {f['value']:>10g} {f['unit']:<10} {beside:<36} {ratio:>8}  {f.get('target', ''):<16} {met}"


def first_line(*cmd):
    try:
        return subprocess.run(cmd, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "unknown"


def machine(w):
    cpu = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.M)
    mem = re.search(r"^MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text(), re.M)
    disk = w.tool("noop_latency", "https://none", "none", 0, w.dir, env={"PHOTON_TOKEN": "none"})
    return {
        "cpu": cpu.group(1) if cpu else platform.processor(),
        "cores": os.cpu_count(),
        "memory_mib": int(mem.group(1)) // 1024,
        "kernel": platform.release(),
        "os": first_line("sh", "-c", ". /etc/os-release; echo \"$PRETTY_NAME\""),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": first_line("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"),
        "compiler": first_line(os.environ.get("CC", "gcc"), "--version"),
        "load_before": os.getloadavg()[0],
        "data_folder": str(w.dir),
        "file_system": first_line("stat", "-f", "-c", "%T", str(w.dir)),
        **disk,
    }


def main():
    a = argparse.ArgumentParser(usage="run.py [--build DIR] [--scratch DIR] [--rounds N] [PART]...")
    a.add_argument("--build", default=ROOT / "build")
    a.add_argument("--scratch", default="/var/tmp", help="where hub and agents keep their data; a disk, not tmpfs")
    a.add_argument("--rounds", type=int, default=3, help="each side of a comparison is run so often, in turns")
    a.add_argument("parts", nargs="*", metavar="PART")
    o = a.parse_args()
    wanted = o.parts or list(parts.PARTS)
    unknown = [p for p in wanted if p not in parts.PARTS]
    if unknown or o.rounds < 1:
        print(f"run.py: no part {' '.join(unknown)}; there are: {' '.join(parts.PARTS)}", file=sys.stderr)
        return 64
    missing = [p for p in ("photon-hub", "photon-agent", "bench/rpc_echo") if not (Path(o.build) / p).exists()]
    if missing:
        print(f"run.py: {', '.join(missing)} not in {o.build}: make bench-build", file=sys.stderr)
        return 1
    world.quiet_signals()
    fig = Figures()
    doc = {}
    with world.World(o.build, o.scratch) as w:
        doc["machine"] = machine(w)
    failed = []
    for p in wanted:
        try:
            with world.World(o.build, o.scratch) as w:
                parts.PARTS[p](w, fig, o.rounds)
        except (RuntimeError, OSError, subprocess.SubprocessError, ValueError, KeyError) as e:
            # One part that cannot run must not take the others' figures along.
            failed.append({"part": p, "error": str(e)})
            print(f"{p}: {e}", file=sys.stderr)
    doc["machine"]["load_after"] = os.getloadavg()[0]
    doc["figures"] = fig.list
    doc["seen"] = fig.seen
    doc["failed"] = failed
    short = [f["name"] for f in fig.list if f.get("met") is False]
    doc["short"] = short
    print(json.dumps(doc, indent=1))
    print(f"{sum(1 for f in fig.list if f.get('met'))} met, {len(short)} short: {', '.join(short) or 'none'}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
