"""AI tools through a real hub and a real agent: the programs of npm where they are installed, and
the project's stand-ins everywhere. What is asked of one is asked of each."""
import json
import os
import signal
import unittest
from pathlib import Path

from ai import ai_env, ai_policy, models, needs_peer
from harness import Agent, World, _Ctx, wait_for

OVER = ("succeeded", "failed", "cancelled")


def processes(home):
    """What runs with this HOME in its environment and belongs to a call: an AI tool, and all that it
    started. (What the agent starts to see which tools there are belongs to none.)"""
    found, want = {}, f"HOME={home}".encode()
    for p in Path("/proc").iterdir():
        if p.name.isdigit():
            try:
                env = (p / "environ").read_bytes().split(b"\0")
                if want in env and any(v.startswith(b"PHOTON_RUN_ID=") for v in env):
                    found[int(p.name)] = (p / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:120]
            except OSError:
                pass  # gone, or not ours
    return found


def lives(pid):
    """A zombie does not: it only waits to be counted by who inherited it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


class AiWorld(World):
    real = True
    env = {}
    only = ()  # the programs on the agent's PATH; none: all there are

    def setUp(self):
        super().setUp()
        self.home, self.work = self.dir / "home", self.dir / "work"
        self.work.mkdir()
        self.m = models(self)
        self.env_of_tools = ai_env(self.home, self.m, self.real, self.only, **self.env)
        self.h = self.hub()
        self.a = Agent(_Ctx(self), self.h, "a1", token=self.h.join_token(uses=1), policy=ai_policy(self.env_of_tools, self.work)).start()
        self.addCleanup(self.end_tools)

    def end_tools(self):
        for pid in processes(self.home):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def begin(self, uses, step=None, **given):
        given.setdefault("cwd", str(self.work))
        return self.h.submit({"name": "ai", "steps": [{"id": "s", "uses": uses, "with": given, **(step or {})}]})

    def over(self, run, timeout=120):
        doc = self.h.wait_run(run, timeout)
        s = doc["steps"][0]
        s["outputs"] = s.get("outputs") or {}
        return s

    def do(self, uses, step=None, **given):
        return self.over(self.begin(uses, step, **given))

    def events(self, run, kind=None):
        r = self.h.cli("logs", run, "s", "-o", "json", "--channel", "event")
        got = [json.loads(line)["event"] for line in r.stdout.splitlines()]
        return [e for e in got if kind is None or e["type"] == kind]

    def gone(self):
        """Nothing that the tool started lives."""
        left = processes(self.home)
        self.assertEqual(left, {}, "of the tool lives on")


class AiTool:
    """The same for every tool. `uses` and `given` call it; `write(path)` and `sleep` are prompts
    that make its model want a file written, and a command that runs for a minute."""
    given = {}
    refusal_ends = False
    cost = False
    patience = "12s"

    def call(self, prompt, step=None, **more):
        return self.do(self.uses, step, prompt=prompt, **{**self.given, **more})

    def started(self, prompt, step=None, **more):
        return self.begin(self.uses, step, prompt=prompt, **{**self.given, **more})

    def test_allowed_it_is_done_refused_it_is_not_and_the_session_goes_on(self):
        run = self.started(self.write(self.work / "a.txt"), permission_mode="allow")
        s = self.over(run)
        self.assertEqual(s["state"], "succeeded", s)
        out = s["outputs"]
        self.assertEqual((self.work / "a.txt").read_text().strip(), "hi")
        self.assertIn({"path": "a.txt", "change": "added"}, out["files_changed"])
        self.assertEqual([f for f in out["files_changed"] if f["path"] != "a.txt"], [])
        self.assertIn("tool said:", out["text"])
        self.assertGreater(out["usage"]["input_tokens"], 0)
        self.assertEqual(self.cost, "cost_usd" in out, out)
        kinds = {e["type"] for e in self.events(run)}
        self.assertLessEqual({"text", "tool", "usage", "result"}, kinds)
        self.assertEqual([e["status"] for e in self.events(run, "tool") if "status" in e][-1], "completed")
        (self.work / "a.txt").unlink()

        before = len(self.m.requests())
        s = self.call(self.write(self.work / "b.txt"), permission_mode="deny", session=out["session"])
        self.assertFalse((self.work / "b.txt").exists())
        if self.refusal_ends:
            self.assertEqual((s["state"], s["error"]["code"]), ("failed", "permission_refused"), s)
        else:
            self.assertEqual((s["state"], s["outputs"].get("permissions_denied")), ("succeeded", 1), s)
        if self.real:
            sent = json.dumps([q["body"] for q in self.m.requests()[before:]])
            self.assertIn("a.txt", sent, "the model sees what was said in the call before")
        wait_for("the tool's end", lambda: not processes(self.home))

    def question(self, run):
        def open_one():
            state = self.h.run_json(run)["state"]
            self.assertNotIn(state, OVER, self.h.run_json(run))
            status, doc = self.h.api("GET", f"/checkpoints?run={run}")
            self.assertEqual(status, 200, doc)
            return doc["items"][0] if doc["items"] else None
        return wait_for("its question", open_one, 60)

    def test_a_person_is_asked_and_the_answer_reaches_the_tool(self):
        run = self.started(self.write(self.work / "a.txt"))
        q = self.question(run)
        self.assertIn("a.txt", json.dumps(q), "it says what would be done")
        self.h.kill9()
        self.h.restart()
        self.a.wait_online()
        self.assertFalse((self.work / "a.txt").exists())
        r = self.h.cli("approve", q["id"])
        self.assertEqual(r.returncode, 0, r.stderr)
        s = self.over(run)
        self.assertEqual(s["state"], "succeeded", s)
        self.assertEqual((self.work / "a.txt").read_text().strip(), "hi")
        kinds = [e["type"] for e in self.events(run)]
        self.assertLess(kinds.index("question"), kinds.index("answer"))

        run = self.started(self.write(self.work / "b.txt"), session=s["outputs"]["session"])
        r = self.h.cli("reject", self.question(run)["id"], "--reason", "not today")
        self.assertEqual(r.returncode, 0, r.stderr)
        s = self.over(run)
        self.assertEqual(s["state"], "failed" if self.refusal_ends else "succeeded", s)
        self.assertFalse((self.work / "b.txt").exists())

    def test_what_the_api_refuses_has_its_code_and_a_sentence(self):
        for status, code in ((401, "auth_failed"), (429, "rate_limited")):
            s = self.call(f"x [[status: {status}]]", limits={"stall": "20s"})
            self.assertEqual((s["state"], s["error"]["code"]), ("failed", code), s)
            self.assertGreater(len(s["error"]["message"]), 20)
            self.gone()

    def wait_for_command(self, run):
        def runs():
            state = self.h.run_json(run)["state"]
            self.assertNotIn(state, OVER, self.h.run_json(run))
            return [p for p, cmd in processes(self.home).items() if "time.sleep(67)" in cmd]
        return wait_for("its command to run", runs, 60)

    def test_cancelled_timed_out_or_killed_nothing_of_it_lives_on(self):
        run = self.started(self.sleep, permission_mode="allow")
        self.wait_for_command(run)
        self.assertEqual(self.h.cli("run", "cancel", run).returncode, 0)
        s = self.over(run)
        self.assertEqual(s["state"], "cancelled", s)
        self.gone()

        run = self.started(self.sleep, permission_mode="allow", step={"timeout": self.patience})
        s = self.over(run)
        self.assertEqual((s["state"], s["error"]["code"]), ("failed", "timeout"), s)
        self.gone()

        run = self.started(self.sleep, permission_mode="allow")
        self.wait_for_command(run)
        for pid, cmd in processes(self.home).items():
            if any(word in cmd for word in self.programs):
                os.kill(pid, signal.SIGKILL)  # a process of this test's own HOME
        s = self.over(run)
        self.assertEqual((s["state"], s["error"]["code"]), ("failed", "stream_ended"), s)
        self.gone()


class Manners:
    """How bad manners of a program end, whichever protocol it speaks; and that it leaves nothing behind."""

    def fails(self, prompt, code, **more):
        s = self.call(prompt, **more)
        self.assertEqual((s["state"], s["error"] and s["error"]["code"]), ("failed", code), (prompt, s))
        self.gone()
        return s

    def test_half_a_message_fifty_megabytes_and_an_early_end_have_codes(self):
        self.fails("x [[text: begun]] [[half-line]]", "half_message")
        self.fails("x [[huge-line: 52428800]]", "message_too_large")
        self.assertEqual(self.fails("x [[text: begun]] [[exit: 3]]", "stream_ended")["outputs"]["text"], "begun")
        self.fails("x [[text: begun]] [[stderr: I am out of luck]] [[die]]", "stream_ended")

    def test_who_says_nothing_is_ended_even_if_it_ignores_sigterm(self):
        self.fails("x [[text: begun]] [[hang]]", "stalled", limits={"stall": "1s"})
        pid = self.dir / "pid"
        self.fails(f"x [[pid: {pid}]] [[ignore-term]] [[hang]]", "stalled", limits={"stall": "4s"})
        self.assertFalse(lives(pid.read_text()))

    def test_what_it_leaves_behind_ends_with_it_also_after_success(self):
        child = self.dir / "child"
        s = self.call(f"x [[grandchild: {child}]] [[text: all is well]]")
        self.assertEqual((s["state"], s["outputs"]["text"]), ("succeeded", "all is well"), s)
        self.assertFalse(lives(child.read_text()), "a process in a session of its own lives on")

    def test_changes_it_does_not_tell_are_seen(self):
        s = self.call(f"x [[touch: {self.work}/quiet.txt]] [[text: done]]")
        self.assertEqual(s["outputs"]["files_changed"], [{"path": "quiet.txt", "change": "added"}], s)

    def test_the_agent_is_killed_and_nothing_of_the_tool_outlives_its_next_start(self):
        run = self.started(self.sleep, permission_mode="allow")
        self.wait_for_command(run)
        self.a.kill9()
        self.a.start()
        # Nobody knows what it has done so far: a person decides, it is not begun again.
        s = wait_for("what became of it", lambda: [s for s in self.h.run_json(run)["steps"] if s["state"] not in ("queued", "running")])
        self.assertEqual(s[0]["state"], "unknown", s)
        wait_for("the orphans' end", lambda: not processes(self.home))


SLEEP = "python3 -c 'import time; time.sleep(67)'"


class ClaudeWords:
    cost = True

    def write(self, path):
        return f"please [[tool: Write {json.dumps({'file_path': str(path), 'content': 'hi'})}]]"
    sleep = f"please [[tool: Bash {json.dumps({'command': SLEEP, 'description': 'x'})}]]"


class CodexWords:
    def write(self, path):
        return "please [[tool: exec_command %s]]" % json.dumps({
            "cmd": f"echo hi > {path}", "sandbox_permissions": "require_escalated", "justification": "a test"})
    sleep = "please [[tool: exec_command %s]]" % json.dumps({
        "cmd": SLEEP, "sandbox_permissions": "require_escalated", "justification": "a test",
        "yield_time_ms": 30000})  # else Codex goes on without it after ten seconds


class GeminiWords:
    def write(self, path):
        return f"please [[tool: write_file {json.dumps({'file_path': str(path), 'content': 'hi'})}]]"
    sleep = f"please [[tool: run_shell_command {json.dumps({'command': SLEEP, 'description': 'x'})}]]"


class AcpClaude(ClaudeWords, AiTool):
    only = ("claude-agent-acp", "claude")
    uses, given, programs = "acp.prompt", {"agent": "claude-agent-acp"}, ["claude-agent-acp", "fake_acp"]


@needs_peer("claude-agent-acp", "node")
class RealAcpClaude(AcpClaude, AiWorld):
    pass


class StandInAcpClaude(AcpClaude, Manners, AiWorld):
    real, cost, patience = False, False, "3s"


class ClaudeCode(ClaudeWords, AiTool):
    only = ("claude",)
    uses, programs = "claude-code.prompt", ["/claude", "claude "]


@needs_peer("claude")
class RealClaudeCode(ClaudeCode, AiWorld):
    pass


class StandInClaudeCode(ClaudeCode, Manners, AiWorld):
    real, patience = False, "3s"


class AcpCodex(CodexWords, AiTool):
    only = ("codex-acp", "codex")
    uses, given, programs, refusal_ends = "acp.prompt", {"agent": "codex-acp"}, ["codex-acp", "fake_acp"], True


@needs_peer("codex-acp", "node")
class RealAcpCodex(AcpCodex, AiWorld):
    pass


class Gemini(GeminiWords, AiTool):
    only = ("gemini",)
    uses, given, programs = "gemini.prompt", {"model": "gemini-2.5-flash"}, ["gemini", "fake_acp"]


class Codex(CodexWords, AiTool):
    only = ("codex",)
    uses, programs = "codex.prompt", ["/codex", "codex "]


@needs_peer("codex")
class RealCodex(Codex, AiWorld):
    pass


class StandInCodex(Codex, Manners, AiWorld):
    real, patience = False, "3s"


class StandInCursor(ClaudeWords, AiTool, AiWorld):
    """The real one is in no registry: only its stand-in, after its documentation."""
    uses, programs, real, cost, patience = "cursor.prompt", ["cursor-agent"], False, False, "3s"
    env = {"CURSOR_API_KEY": "worth-nothing"}


@needs_peer("gemini", "node")
class RealGemini(Gemini, AiWorld):
    pass


class StandInGemini(Gemini, AiWorld):
    real, patience = False, "3s"


if __name__ == "__main__":
    unittest.main()
