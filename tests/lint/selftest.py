#!/usr/bin/env python3
"""Proves that each check of lint.py can fail, and that a clean tree passes."""
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
LINT = os.path.join(HERE, "lint.py")
STYLE = os.path.join(HERE, "..", "..", ".clang-format")

CLEAN = {
    "common/err.h": "/* Codes. */\nint err_code(void);\n",
    "common/err.c": '#include "common/err.h"\n\n#include <stdio.h>\n\nint err_code(void)\n{\n        return 0;\n}\n',
    "hub/model/run.c": '#include "common/err.h"\n#include "hub/model/run.h"\n',
    "hub/model/run.h": "/* Runs. */\n",
    "hub/store/store.h": "/* The store. */\n",
    "hub/sched/plan.c": '#include "hub/store/store.h"\n#include "hub/model/run.h"\n',
    "hub/agents/session.c": '#include "photon/v1/agent.pb-c.h"\n#include "hub/store/store.h"\n',
    "hub/hub.c": '#include "hub/agents/agents.h"\n#include "hub/http/http.h"\n',
    "agent/tools/file.c": '#include "agent/policy.h"\n',
}

# A hub of two routes and one tool.
ACCESS = {
    "hub/model/access.h": '/* Permissions. */\n#define PERMISSION_LIST(X) \\\n        X(PUBLIC, "public", 1) \\\n'
                          '        X(RUNS_READ, "runs.read", 1)\n',
    "hub/http/api.h": "/* Handlers. */\nint api_run_get(struct http_req *q, struct err *e);\n"
                      "int api_healthz(struct http_req *q, struct err *e);\n",
    "hub/http/mcp_table.c": '/* clang-format off */\nconst struct mcp_tool mcp_tools[] = {\n'
                            '        {"get_run", "t", "d",\n         "GET", V1 "/runs/{id}", {"run"}, 0},\n        {0},\n};\n',
}
ROUTES = [
    '{"GET", V1 "/runs/{id}", PERM_RUNS_READ, api_run_get, 0, ROUTE_OF_RUN, 200},',
    '{"GET", "/healthz", PERM_PUBLIC, api_healthz, 0, 0, 200},',
    '{"GET", "/readyz", PERM_PUBLIC, api_healthz, 0, 0, 200},',
    '{"GET", "/version", PERM_PUBLIC, api_healthz, 0, 0, 200},',
    '{"POST", V1 "/login/device", PERM_PUBLIC, api_healthz, 0, 0, 200},',
    '{"GET", V1 "/openapi.json", PERM_PUBLIC, api_healthz, 0, 0, 200},',
]


def router(*more, but=()):
    rows = [r for i, r in enumerate(ROUTES) if i not in but] + list(more)
    return "/* clang-format off */\nstatic const struct route routes[] = {\n" + "".join(f"        {r}\n" for r in rows) + "};\n"


def access(**changed):
    """The hub above with some of its files changed."""
    names = {"table": "hub/model/access.h", "api": "hub/http/api.h", "tools": "hub/http/mcp_table.c"}
    files = {**ACCESS, "hub/http/router.c": router()}
    for key, text in changed.items():
        files[names.get(key, "hub/http/router.c")] = text
    return files


# (files, a part of the complaint)
OPEN_DOORS = [
    (access(routes=router('{"GET", V1 "/new", PERM_NEW, api_run_get, 0, 0, 200},')), "PERM_NEW is not in the table"),
    (access(routes=router('{"GET", V1 "/new", PERM_PUBLIC, api_run_get, 0, 0, 200},')), "public routes are named"),
    (access(routes=router('{"GET", V1 "/runs/{id}/x", PERM_RUNS_READ, api_run_get, 0, 0, 200},')), "needs ROUTE_OF_RUN"),
    (access(routes=router('{"GET", V1 "/runs/{id}/x", PERM_RUNS_READ, api_run_get, 0, ROUTE_OF_RUN | ROUTE_LISTS, 200},')),
     "is about one thing"),
    (access(routes=router('{"GET", make_path(), PERM_RUNS_READ, api_run_get, 0, ROUTE_OF_RUN, 200},')),
     "7 routes begin here, 6 are understood"),
    (access(routes=router(but=(0,))), "no route needs PERM_RUNS_READ"),
    (access(routes=router(but=(0,))), "there is no route GET /api/v1/runs/{id}"),
    (access(api=ACCESS["hub/http/api.h"] + "int api_lost(struct http_req *q, struct err *e);\n"),
     "api_lost is no route's handler"),
    (access(tools=ACCESS["hub/http/mcp_table.c"].replace('        {0}', '        {"free", "t", "d", NULL, NULL, {0}},\n        {0}')),
     "2 tools begin here, 1 name a route"),
]

LONG_FUNCTION = "int f(void)\n{\n" + "        f();\n" * 118 + "        return 0;\n}\n"

# (check, file, text, a part of the complaint)
VIOLATIONS = [
    ("layers", "common/a.c", '#include "hub/model/run.h"\n', 'common must not include "hub/model/run.h"'),
    ("layers", "common/a.c", '#include "photon/v1/agent.pb-c.h"\n', "common must not include"),
    ("layers", "hub/model/a.c", '#include "hub/store/store.h"\n', "hub/model must not include"),
    ("layers", "hub/sched/a.c", '#include "hub/agents/session.h"\n', "hub/sched must not include"),
    ("layers", "hub/store/a.c", '#include "hub/sched/plan.h"\n', "hub/store must not include"),
    ("layers", "hub/auth/a.c", '#include "hub/store/store_impl.h"\n', "hub/auth must not include"),
    ("layers", "hub/agents/a.c", '#include "hub/http/http.h"\n', "hub/agents must not include"),
    ("layers", "hub/http/a.c", '#include "hub/agents/agents.h"\n', "hub/http must not include"),
    ("layers", "agent/a.c", '#include "hub/model/run.h"\n', "agent must not include"),
    ("layers", "agent/tools/a.c", '#include "agent/journal.h"\n', "agent/tools must not include"),
    ("layers", "cli/a.c", '#include "hub/model/run.h"\n', "cli must not include"),
    ("layers", "cli/a.c", '  #  include "hub/hub.h"\n', "cli must not include"),
    ("layers", "common/a.c", '#include "err.h"\n', "write the path from the root"),
    ("layers", "common/a.c", '#include "common/../hub/hub.h"\n', "write the path from the root"),
    ("layers", "common/a.c", '#include "common/err.c"\n', "include headers only"),
    ("layers", "hub/sched/a.c", "#include <sqlite3.h>\n", "<sqlite3.h> is only for"),
    ("layers", "agent/a.c", "#include <nng/nng.h>\n", "<nng/nng.h> is only for"),
    ("sizes", "common/a.c", "int x;\n" * 901, "901 lines"),
    ("sizes", "common/a.c", LONG_FUNCTION, "f has 122 lines"),
    ("files", "core", "\x7fELF\0\0", "is binary"),
    ("files", "docs/big.md", "x" * 200001, "200001 bytes"),
    ("headers", "hub/model/a.h", "#pragma once\n", "a header opens with a comment"),
    ("headers", "cli/a.h", "/**/\nint x;\n", "a header opens with a comment"),
    ("format", "common/a.c", "int f( void ) { return 0; }\n", "not formatted"),
]


def make_tree(extra):
    root = tempfile.mkdtemp(prefix="photon-lint-")
    shutil.copy(STYLE, os.path.join(root, ".clang-format"))
    for path, text in {**CLEAN, **extra}.items():
        full = os.path.join(root, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "w", encoding="utf-8") as f:
            f.write(text)
    return root


def run(check, extra):
    root = make_tree(extra)
    try:
        done = subprocess.run([sys.executable, LINT, "--root", root] + ([check] if check else []),
                              capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr
    finally:
        shutil.rmtree(root)


def main():
    failed = 0
    status, said = run(None, {})
    if status != 0:
        print(f"selftest: a clean tree was refused:\n{said}")
        failed += 1
    for check, path, text, part in VIOLATIONS:
        status, said = run(check, {path: text})
        if status != 1 or part not in said or f"{path}:" not in said:
            print(f"selftest: {check} let pass {path} with {text[:60]!r}: {said}")
            failed += 1
    status, said = run("access", access())
    if status != 0:
        print(f"selftest: a hub whose doors are all in the table was refused:\n{said}")
        failed += 1
    for files, part in OPEN_DOORS:
        status, said = run("access", files)
        if status != 1 or part not in said:
            print(f"selftest: access did not say {part!r}: {said}")
            failed += 1
    print(f"lint selftest: {len(VIOLATIONS) + len(OPEN_DOORS) + 2 - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
