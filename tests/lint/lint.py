#!/usr/bin/env python3
"""Checks of the source tree that the compiler does not make.

    lint.py [--root DIR] [access] [files] [layers] [sizes] [headers] [format] [--fix]

Without a name all checks run. Each problem is one line, `file:line: what`;
exit status 1 if there is any. tests/lint/selftest.py proves that each check
can fail.
"""
import argparse
import os
import re
import subprocess
import sys

ROOTS = ["common", "hub", "agent", "cli", "tests", "bench"]
FILE_LINES_MAX = 900
FUNCTION_LINES_MAX = 120

# --- who may include whom -----------------------------------------------------
# A file belongs to the longest folder below that holds it. It may include from
# its own folder (not its subfolders), and what its line allows: "x/" a folder
# with all below it, "x.h" one header. Generated headers are "photon/v1/".
PROTO = "photon/v1/"
MODEL = ["common/", "hub/model/"]
RULES_OF_HUB = MODEL + ["hub/store/store.h"]
EDGE_OF_HUB = MODEL + ["hub/store/store.h", "hub/sched/", "hub/auth/", "hub/event/", "hub/logs/", "hub/vault/",
                       "hub/audit/", "hub/metrics/", "hub/net/", "hub/notify/", PROTO]
LAYERS = {
    "common": ["photon/v1/rpc.pb-c.h"],
    "hub": ["common/", "hub/", PROTO],
    "hub/model": ["common/"],
    # The engine publishes what it decided.
    "hub/sched": RULES_OF_HUB + ["hub/event/bus.h"],
    "hub/store": RULES_OF_HUB,
    # Sign-ins, tokens and revocations are events.
    "hub/auth": RULES_OF_HUB + ["hub/event/bus.h", "hub/net/net.h"],
    "hub/event": RULES_OF_HUB,
    # What the hub sends and fetches by itself.
    "hub/net": ["common/"],
    # Notices of what the engine asks people.
    "hub/notify": RULES_OF_HUB + ["hub/event/bus.h", "hub/net/net.h", "hub/sched/engine.h"],
    "hub/logs": RULES_OF_HUB,
    "hub/vault": RULES_OF_HUB,
    "hub/audit": RULES_OF_HUB,
    "hub/metrics": RULES_OF_HUB,
    "hub/agents": EDGE_OF_HUB,
    "hub/http": EDGE_OF_HUB,
    "agent": ["common/", "agent/", PROTO],
    "agent/tools": ["common/", "agent/policy.h", "agent/job.h", "agent/output.h", "agent/sandbox/sandbox.h",
                    "agent/sandbox/launch.h"],
    "agent/sandbox": ["common/"],
    "cli": ["common/", PROTO],
    "tests": ["common/", "hub/", "agent/", "cli/", "tests/", PROTO],
    "bench": ["common/", "hub/", "agent/", "cli/", "tests/lib/", "bench/", PROTO],
}

# Libraries that one place wraps, so that it can be changed or faked there.
WRAPPED = {
    "nng/": ["common/link", "common/tls_engine", "tests/", "bench/"],
    "sqlite3.h": ["hub/store/", "tests/", "bench/"],
    "microhttpd.h": ["hub/http/", "tests/", "bench/"],
    "curl/": ["agent/tools/", "hub/net/", "cli/", "tests/", "bench/"],
    "yaml.h": ["common/yaml", "tests/"],
    "seccomp.h": ["agent/sandbox/"],
    "nettle/": ["common/"],
    "mbedtls/": ["common/", "tests/", "bench/"],
}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def sources(root):
    """Every .c and .h of ours, relative to root."""
    for top in ROOTS:
        for folder, subs, files in os.walk(os.path.join(root, top)):
            subs.sort()
            for name in sorted(files):
                if name.endswith((".c", ".h")):
                    yield os.path.relpath(os.path.join(folder, name), root)


def read(root, path):
    with open(os.path.join(root, path), encoding="utf-8") as f:
        return f.read()


def layer_of(path):
    folder = os.path.dirname(path)
    while folder and folder not in LAYERS:
        folder = os.path.dirname(folder)
    return folder


def allowed(path, target):
    layer = layer_of(path)
    if os.path.dirname(target) == layer or os.path.dirname(target) == os.path.dirname(path):
        return True
    return any(target == rule or (rule.endswith("/") and target.startswith(rule)) for rule in LAYERS[layer])


def check_layers(root):
    for path in sources(root):
        if not layer_of(path):
            yield path, 1, "no layer is defined for this folder; add it to LAYERS in tests/lint/lint.py"
            continue
        for number, line in enumerate(read(root, path).splitlines(), 1):
            m = INCLUDE.match(line)
            if not m:
                continue
            quote, target = m.groups()
            if quote == '"' and target.startswith("proto/"):
                target = target[len("proto/"):]
            if quote == "<":
                for lib, places in WRAPPED.items():
                    if target.startswith(lib) and not path.startswith(tuple(places)):
                        yield path, number, f"<{target}> is only for {', '.join(places)}"
            elif target.endswith(".c"):
                yield path, number, f'"{target}": include headers only'
            elif "/" not in target or ".." in target:
                yield path, number, f'"{target}": write the path from the root of the project'
            elif not allowed(path, target):
                yield path, number, f'{layer_of(path)} must not include "{target}" (LAYERS in tests/lint/lint.py)'


# --- sizes ----------------------------------------------------------------------

def functions(root, paths):
    """(path, line, name, length) of each function, by universal-ctags."""
    out = subprocess.run(
        ["ctags", "--languages=C", "--langmap=C:.c.h", "--kinds-C=f", "--fields=+ne", "--excmd=number", "--sort=no",
         "-L", "-", "-f", "-"],
        cwd=root, input="\n".join(paths), capture_output=True, text=True, check=True).stdout
    for tag in out.splitlines():
        if tag.startswith("!"):
            continue
        parts = tag.split("\t")
        fields = dict(p.split(":", 1) for p in parts[3:] if ":" in p)
        if "line" in fields and "end" in fields:
            yield parts[1], int(fields["line"]), parts[0], int(fields["end"]) - int(fields["line"]) + 1


def check_sizes(root):
    paths = list(sources(root))
    for path in paths:
        lines = read(root, path).count("\n")
        if lines > FILE_LINES_MAX:
            yield path, lines, f"{lines} lines; a file has at most {FILE_LINES_MAX}"
    for path, line, name, length in functions(root, paths):
        if length > FUNCTION_LINES_MAX:
            yield path, line, f"{name} has {length} lines; a function has at most {FUNCTION_LINES_MAX}"


# --- files ----------------------------------------------------------------------
# What is kept is text that a person wrote, or small data of the tests: no build output, no core.
FILE_BYTES_MAX = 200 * 1000
BINARY_IN = ("tests/fuzz/corpus/", "tests/data/")


def kept_files(root):
    """What the repository holds; outside of one, what the folder holds."""
    if os.path.exists(os.path.join(root, ".git")):
        out = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True).stdout
        yield from (p for p in out.split("\0") if p and os.path.exists(os.path.join(root, p)))
        return
    for folder, _, files in os.walk(root):
        yield from (os.path.relpath(os.path.join(folder, name), root) for name in files)


def check_files(root):
    for path in kept_files(root):
        full = os.path.join(root, path)
        size = os.path.getsize(full)
        with open(full, "rb") as f:
            head = f.read(8192)
        if size > FILE_BYTES_MAX:
            yield path, 1, f"{size} bytes; a file in the repository has at most {FILE_BYTES_MAX}"
        elif b"\0" in head and not path.startswith(BINARY_IN):
            yield path, 1, f"is binary; such files are only for {', '.join(BINARY_IN)}"


# --- headers --------------------------------------------------------------------

def check_headers(root):
    for path in sources(root):
        if path.endswith(".h") and not path.startswith(("tests/", "bench/")):
            if not re.match(r"/\*\s*\w", read(root, path)):
                yield path, 1, "a header opens with a comment that says what the module is for"


# --- format ---------------------------------------------------------------------

def check_format(root, fix=False):
    paths = list(sources(root))
    if not paths:
        return
    if fix:
        subprocess.run(["clang-format", "-i"] + paths, cwd=root, check=True)
        return
    out = subprocess.run(["clang-format", "--dry-run", "--ferror-limit=1"] + paths, cwd=root,
                         capture_output=True, text=True)
    seen = set()
    for line in out.stderr.splitlines():
        m = re.match(r"(.+?):(\d+):\d+: (?:warning|error): code should be clang-formatted", line)
        if m and m.group(1) not in seen:
            seen.add(m.group(1))
            yield m.group(1), int(m.group(2)), "not formatted; run: make format"
    if out.returncode and not seen:
        yield ".clang-format", 1, out.stderr.strip()


# --- access ---------------------------------------------------------------------
# Every route and every MCP tool is in the table of permissions, and says what it is about: the guard
# (hub/http/guard.h) can only ask what is written there.

# Nobody has to log in for these. A route that joins them is named here on purpose.
# Permissions that depend on what a body says, and the one handler that asks for each.
ASKED_INSIDE = {"PERM_SECRETS_USE": "hub/http/submit.c"}
PUBLIC_ROUTES = {"GET /healthz", "GET /readyz", "GET /version", "GET /api/v1/openapi.json", "POST /api/v1/login/device",
                 "POST /api/v1/login/token", "GET /login", "GET /callback"}
# What a path is about follows from its first words.
ABOUT = [("/api/v1/runs/{", "ROUTE_OF_RUN"), ("/api/v1/checkpoints/{", "ROUTE_OF_CHECKPOINT"),
         ("/approve/{", "ROUTE_OF_CHECKPOINT"),
         ("/api/v1/projects/{name}/members", "ROUTE_OF_PROJECT")]
WHERE = {"ROUTE_ANYWHERE", "ROUTE_OF_RUN", "ROUTE_OF_CHECKPOINT", "ROUTE_IN_PROJECT", "ROUTE_LISTS", "ROUTE_OF_PROJECT"}

ROUTE = re.compile(r'^\s*\{\s*"([A-Z]+)",\s*(V1\s+)?"([^"]+)",\s*(\w+),\s*(\w+),\s*([^,]+),\s*([^,]+),', re.M)
TOOL = re.compile(r'"([A-Z]+)",\s*(V1\s+)?"(/[^"]+)",\s*\{')


def rows_of(text, table):
    """The body of `table[] = {...};` and the line on which it begins."""
    m = re.search(re.escape(table) + r"\[\] = \{\n(.*?)^\};", text, re.S | re.M)
    return (m.group(1), text.count("\n", 0, m.start(1)) + 1) if m else ("", 1)


def check_access(root):
    table, router, tools, api = ("hub/model/access.h", "hub/http/router.c", "hub/http/mcp_table.c", "hub/http/api.h")
    if not os.path.exists(os.path.join(root, router)):
        return
    known = {"PERM_" + m for m in re.findall(r'^\s*X\((\w+), "', read(root, table), re.M)}
    body, first = rows_of(read(root, router), "routes")
    # A comment is no row; what looks like a row and is not understood must not slip through.
    body = re.sub(r"/\*.*?\*/", lambda m: re.sub(r"[^\n]", " ", m.group(0)), body, flags=re.S)
    begun = len(re.findall(r'^\s*\{\s*"', body, re.M))
    used, handlers, paths = set(), set(), set()
    rows = list(ROUTE.finditer(body))
    if not rows or len(rows) != begun:
        yield router, first, f"{begun} routes begin here, {len(rows)} are understood: write them as the others"
    for m in rows:
        line = first + body.count("\n", 0, m.start(1))
        path = ("/api/v1" if m.group(2) else "") + m.group(3)
        route, perm, flags = f"{m.group(1)} {path}", m.group(4), set(re.findall(r"\w+", m.group(7)))
        used.add(perm)
        handlers.add(m.group(5))
        paths.add(route)
        if perm not in known:
            yield router, line, f"{route}: {perm} is not in the table of permissions (hub/model/access.h)"
        if (perm == "PERM_PUBLIC") != (route in PUBLIC_ROUTES):
            yield router, line, f"{route}: public routes are named in PUBLIC_ROUTES of tests/lint/lint.py"
        if len(flags & WHERE) > 1:
            yield router, line, f"{route}: is about one thing, not {', '.join(sorted(flags & WHERE))}"
        for begin, flag in ABOUT:
            if path.startswith(begin) and flag not in flags:
                yield router, line, f"{route}: is about what its path names; it needs {flag}"
    for perm in sorted(known - used):
        inside = ASKED_INSIDE.get(perm)
        if inside and os.path.exists(os.path.join(root, inside)) and perm in read(root, inside):
            continue
        yield table, 1, f"no route needs {perm}"
    for name in sorted(set(re.findall(r"^int ((?:api|page)_\w+)\(struct http_req", read(root, api), re.M)) - handlers):
        yield api, 1, f"{name} is no route's handler"
    body, first = rows_of(read(root, tools), "mcp_tools")
    found = list(TOOL.finditer(body))
    begun = len(re.findall(r'^        \{"', body, re.M))
    if len(found) != begun:
        yield tools, first, f"{begun} tools begin here, {len(found)} name a route"
    for m in found:
        route = f"{m.group(1)} {'/api/v1' if m.group(2) else ''}{m.group(3)}"
        if route not in paths:
            yield tools, first + body.count("\n", 0, m.start()), f"there is no route {route}, so no permission either"


CHECKS = {"access": check_access, "files": check_files, "layers": check_layers, "sizes": check_sizes, "headers": check_headers,
          "format": check_format}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checks", nargs="*", metavar="CHECK", help=", ".join(CHECKS))
    parser.add_argument("--root", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
    parser.add_argument("--fix", action="store_true", help="format: rewrite the files")
    args = parser.parse_args()
    unknown = [c for c in args.checks if c not in CHECKS]
    if unknown:
        parser.error(f"no such check: {unknown[0]}")
    if args.fix:
        list(check_format(args.root, fix=True))
        return 0
    problems = 0
    for name in args.checks or CHECKS:
        try:
            for path, line, what in CHECKS[name](args.root):
                print(f"{path}:{line}: {what}")
                problems += 1
        except FileNotFoundError as e:
            print(f"lint: {name} needs {e.filename}; run: make deps-test", file=sys.stderr)
            problems += 1
    if problems:
        print(f"lint: {problems} problem{'s' if problems != 1 else ''}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
