"""Secrets in programs that tools drive: AI tools (their stand-ins) and plug-ins have what the step names, in a
variable and in a file in memory, and what they print of it is masked, in whatever pieces it comes."""
import hashlib
import json
import unittest

from ai import ai_env, ai_policy
from harness import Agent, World, _Ctx, wait_for
from leaks import Canary, CommandLines

# Pieces of a prompt are told how long they are to be: one character, a few, so that a value is cut everywhere.
PIECES = (1, 2, 3, 7, 12, 64)


class VaultTools(World):
    def setUp(self):
        super().setUp()
        self.home, self.work = self.dir / "home", self.dir / "work"
        self.work.mkdir()
        self.canary = Canary()
        self.h = self.hub("--log-level", "debug")
        env = ai_env(self.home, real=False)
        self.a = Agent(_Ctx(self), self.h, "a1", token=self.h.join_token(uses=1), policy=ai_policy(env, self.work)).start()
        r = self.h.cli("secret", "set", "CANARY", stdin=self.canary.value)
        self.assertEqual(r.returncode, 0, r.stderr)

    def found(self, run, step):
        """Where the API and the daemons' folders tell it. (What a stand-in keeps of a talk is its own affair.)"""
        hits = self.canary.found_in_files(self.h.dir, self.a.dir, self.work, "/dev/shm")[0]
        for path in (f"/runs/{run}", f"/runs/{run}/events?follow=false", f"/runs/{run}/logs", f"/runs/{run}/steps/{step}/logs",
                     f"/runs/{run}/steps/{step}/logs?channel=event", f"/runs/{run}/steps/{step}/logs?format=json", "/audit?limit=500",
                     "/events?follow=false", "/checkpoints?state=all"):
            status, data, _ = self.h.api("GET", path, raw=True)
            self.assertEqual(status, 200, (path, data))
            hits += [f"{path}: {n}" for n in self.canary.found(data)]
        return hits

    def texts(self, run, kind="text"):
        """The pieces of all events of this kind, put together as a reader does."""
        r = self.h.cli("logs", run, "s", "-o", "json", "--channel", "event")
        return "".join(e["text"] for e in (json.loads(line)["event"] for line in r.stdout.splitlines()) if e["type"] == kind)

    def ask(self, uses, prompt, secrets, want="succeeded", **given):
        run = self.h.submit({"name": "w", "steps": [{"id": "s", "uses": uses, "secrets": secrets,
                                                     "with": {"prompt": prompt, "cwd": str(self.work), "permission_mode": "allow", **given}}]})
        doc = self.h.wait_run(run)
        self.assertEqual(doc["state"], want, doc)
        return run, doc["steps"][0]

    def check_ai_tool(self, uses, **given):
        lines = CommandLines(self.canary)
        lines.start()
        for n in PIECES:
            prompt = f"say [[env: CANARY]] [[file-of: KEY]] [[stderr-env: CANARY]] [[text: , and that is all.]] [[chunk: {n}]]"
            run, step = self.ask(uses, prompt, ["CANARY", {"name": "CANARY", "as": "KEY", "file": True}], **given)
            self.assertEqual(self.found(run, "s"), [], f"pieces of {n}")
            self.assertIn("CANARY=***KEY holds ***, and that is all.", step["outputs"]["text"])
            self.assertEqual(self.texts(run), step["outputs"]["text"], f"pieces of {n}")
        lines.stop()
        self.assertGreater(lines.looked, 100)
        self.assertEqual(lines.hits, set())
        # The next call has nothing of it.
        _, step = self.ask(uses, "say [[env: CANARY]] [[env: KEY]]", [], **given)
        self.assertIn("CANARY=(not set)KEY=(not set)", step["outputs"]["text"])

    def test_an_acp_agent_has_it_and_does_not_tell(self):
        self.check_ai_tool("acp.prompt", command=["fake-acp"])

    def test_claude_code_has_it_and_does_not_tell(self):
        self.check_ai_tool("claude-code.prompt")

    def test_codex_has_it_and_does_not_tell(self):
        self.check_ai_tool("codex.prompt")

    def test_gemini_has_it_and_does_not_tell(self):
        self.check_ai_tool("gemini.prompt")

    def test_cursor_has_it_and_does_not_tell(self):
        self.check_ai_tool("cursor.prompt")

    def test_what_an_ai_tool_runs_and_fails_with_does_not_tell(self):
        tool = json.dumps({"command": "printf '%s ' \"$CANARY\"; printf %s \"$CANARY\" | base64 -w0"})
        for uses, given in (("acp.prompt", {"command": ["fake-acp"]}), ("claude-code.prompt", {})):
            run, step = self.ask(uses, f"please [[tool: Bash {tool}]] [[next]] [[text: done]]", ["CANARY"], **given)
            self.assertEqual(self.found(run, "s"), [], uses)
            self.assertIn("***", json.dumps(self.h.cli("logs", run, "s", "-o", "json", "--channel", "event").stdout))
        run, step = self.ask("acp.prompt", "[[stderr-env: CANARY]] [[exit: 3]]", ["CANARY"], want="failed", command=["fake-acp"])
        self.assertEqual(self.found(run, "s"), [])
        self.assertIn("***", step["error"]["message"])

    PLUGIN = """#!/usr/bin/env python3
import hashlib, json, os, sys
given = json.loads(sys.stdin.readline())
with open(os.environ["KEY"], "rb") as f:
    v = f.read()
for at in range(len(v)):
    print(json.dumps({"type": "text", "text": v[at:at + 1].decode("latin-1")}), flush=True)
    print(json.dumps({"type": "thought", "text": v[at:at + 1].decode("latin-1")}), flush=True)
two = open(os.environ["TWO"], "rb").read()
open_ones = sorted(int(n) for n in os.listdir("/proc/self/fd"))
print(json.dumps({"type": "result", "outputs": {"sha": hashlib.sha256(v).hexdigest(), "two": hashlib.sha256(two).hexdigest(), "fds": open_ones[:-1]}}), flush=True)
"""

    def plugin(self):
        folder = self.a.dir / "tools.d"
        (folder / "files.py").write_text(self.PLUGIN)
        (folder / "files.py").chmod(0o755)
        (folder / "files.yaml").write_text("name: demo.files\ndescription: Reads its keys\ncommand: [./files.py]\ninput_schema: {type: object}\n")
        wait_for("the tool", lambda: "demo.files" in json.dumps(self.h.api("GET", "/tools")[1]))

    def test_a_plug_in_reads_its_files_in_memory(self):
        self.plugin()
        value, two = self.canary.core, "a-second-secret\n" * 4000 + "its end"
        for name, v in (("ONE", value), ("TWO", two)):
            self.assertEqual(self.h.cli("secret", "set", name, stdin=v).returncode, 0)
        run = self.h.submit("steps: [{id: s, uses: demo.files, secrets: [CANARY, {name: ONE, as: KEY, file: true}, {name: TWO, file: true}]}]")
        doc = self.h.wait_run(run)
        self.assertEqual(doc["state"], "succeeded", doc)
        out = doc["steps"][0]["outputs"]
        self.assertEqual(out["sha"], hashlib.sha256(value.encode()).hexdigest())
        self.assertEqual(out["two"], hashlib.sha256(two.encode()).hexdigest())
        self.assertEqual(out["fds"], [0, 1, 2, 3, 4])
        self.assertEqual(self.found(run, "s"), [])
        self.assertEqual((self.texts(run), self.texts(run, "thought")), ("***", "***"))


if __name__ == "__main__":
    unittest.main()
