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
    print(f"lint selftest: {len(VIOLATIONS) + 1 - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
