"""The stand-ins say what the real programs say: each conversation is held with both, and the
same is expected of them. Without the real ones, half of this is skipped."""
import json
import os
import signal
import subprocess
import sys
import unittest

from ai import BIN, PEERS, Talk, ai_env, models, needs_peer
from harness import SLOW, World, wait_for

CLAUDE = ["--input-format", "stream-json", "--output-format", "stream-json", "--verbose", "--permission-prompt-tool", "stdio",
          "--include-partial-messages"]


def user(text):
    return {"type": "user", "message": {"role": "user", "content": [{"type": "text", "text": text}]}}


def is_result(m):
    return m.get("type") == "result"


def is_question(m):
    return m.get("type") == "control_request" and m["request"]["subtype"] == "can_use_tool"


class ClaudeTalks:
    def open(self, *more):
        self.home, self.work = self.dir / "home", self.dir / "work"
        self.work.mkdir(exist_ok=True)
        if not hasattr(self, "m"):
            self.m = models(self)
        t = Talk([*self.program, *CLAUDE, *more], ai_env(self.home, self.m), self.work)
        self.addCleanup(t.kill)
        return t

    def answer(self, t, q, **response):
        t.send({"type": "control_response", "response": {"subtype": "success", "request_id": q["request_id"], "response": response}})

    def write(self, text="hi\n"):
        return 'please [[tool: Write {"file_path": "%s", "content": "hi"}]]' % (self.work / "a.txt")

    def test_a_write_is_asked_for_allowed_and_the_session_goes_on_in_another_process(self):
        t = self.open()
        t.send(user(self.write()))
        q = t.until("the question", is_question)
        self.assertEqual(q["request"]["tool_name"], "Write")
        self.assertIn("tool_use_id", q["request"])
        self.answer(t, q, behavior="allow", updatedInput=q["request"]["input"])
        r = t.until("the result", is_result)
        self.assertIs(r["is_error"], False, r)
        self.assertTrue(r["result"].startswith("tool said: OK"), r)
        self.assertEqual((self.work / "a.txt").read_text(), "hi")
        self.assertEqual([m["subtype"] for m in t.seen if m["type"] == "system"][:1], ["init"])
        self.assertEqual(t.end(), 0)
        cost = r["total_cost_usd"]
        t = self.open("--resume", r["session_id"])
        t.send(user("again [[text: here I am]]"))
        again = t.until("the result", is_result)
        self.assertEqual((again["result"], again["session_id"]), ("here I am", r["session_id"]))
        self.assertGreater(again["total_cost_usd"], cost, "the cost of a resumed session adds up")

    def test_a_refusal_goes_back_to_the_model(self):
        t = self.open()
        t.send(user(self.write()))
        q = t.until("the question", is_question)
        self.answer(t, q, behavior="deny", message="not today")
        r = t.until("the result", is_result)
        self.assertIs(r["is_error"], False)
        self.assertEqual(r["result"], "tool said: ERR not today")
        self.assertEqual([d["tool_name"] for d in r["permission_denials"]], ["Write"])
        self.assertFalse((self.work / "a.txt").exists())

    def test_an_interrupt_ends_the_turn_and_takes_back_the_question(self):
        t = self.open()
        t.send(user(self.write()))
        q = t.until("the question", is_question)
        t.send({"type": "control_request", "request_id": "i1", "request": {"subtype": "interrupt"}})
        r = t.until("the result", is_result)
        self.assertIs(r["is_error"], True)
        taken = [m for m in t.seen if m["type"] == "control_cancel_request"]
        self.assertEqual([m["request_id"] for m in taken], [q["request_id"]])
        self.assertEqual([m["response"]["subtype"] for m in t.seen if m["type"] == "control_response"], ["success"])
        self.assertEqual(t.end(), 1)

    def test_an_api_failure_is_an_error_that_calls_itself_success(self):
        for status in (401, 429, 529):
            t = self.open()
            t.send(user(f"x [[status: {status}]]"))
            r = t.until("the result", is_result)
            self.assertEqual((r["is_error"], r["subtype"], r["api_error_status"]), (True, "success", status))
            self.assertTrue([m for m in t.seen if m.get("subtype") == "api_retry"])
            self.assertEqual(t.end(), 1)

    def test_an_unknown_session_and_sigterm_have_their_exit_status(self):
        t = self.open("--resume", "11111111-2222-4333-8444-555555555555")
        t.send(user("x"))
        r = t.until("the result", is_result)
        self.assertEqual((r["is_error"], r["subtype"]), (True, "error_during_execution"))
        self.assertEqual(t.end(), 1)
        t = self.open()
        t.send(user("x [[slow: 200]] [[text: %s]]" % ("a long story " * 20)))
        t.until("a piece", lambda m: m.get("type") == "stream_event" and m["event"]["type"] == "content_block_delta")
        t.p.send_signal(signal.SIGTERM)
        wait_for("its end", lambda: t.p.poll() is not None)
        self.assertEqual(t.p.returncode, 143)


class ClaudeStandIn(ClaudeTalks, World):
    program = [PEERS / "fake_claude.py"]


@needs_peer("claude")
class ClaudeReal(ClaudeTalks, World):
    program = [BIN / "claude"]


class AcpTalks:
    tool, shell = "Write", "Bash"
    more_args = []
    mode = None
    reject_ends = False

    def open(self, **more):
        self.home, self.work = self.dir / "home", self.dir / "work"
        self.work.mkdir(exist_ok=True)
        if not hasattr(self, "m"):
            self.m = models(self)
        self.t = Talk([*self.program, *self.more_args], ai_env(self.home, self.m, **more), self.work)
        self.addCleanup(self.t.kill)
        self.n = 0
        self.call("initialize", protocolVersion=1, clientCapabilities={"fs": {"readTextFile": False, "writeTextFile": False}, "terminal": False})
        return self.t

    def ask(self, method, **params):
        self.n += 1
        self.t.send({"jsonrpc": "2.0", "id": self.n, "method": method, "params": params})
        return self.n

    def answer_to(self, n):
        return self.t.until(f"the answer to {n}", lambda m: m.get("id") == n and "method" not in m)

    def call(self, method, **params):
        m = self.answer_to(self.ask(method, **params))
        self.assertIn("result", m, m)
        return m["result"]

    def new(self):
        self.sid = self.call("session/new", cwd=str(self.work), mcpServers=[])["sessionId"]
        if self.mode:
            self.call("session/set_mode", sessionId=self.sid, modeId=self.mode)

    def prompt(self, text):
        return self.ask("session/prompt", sessionId=self.sid, prompt=[{"type": "text", "text": text}])

    def question(self):
        return self.t.until("the question", lambda m: m.get("method") == "session/request_permission")

    def choose(self, q, kind):
        option = next(o["optionId"] for o in q["params"]["options"] if o["kind"] == kind)
        self.t.send({"jsonrpc": "2.0", "id": q["id"], "result": {"outcome": {"outcome": "selected", "optionId": option}}})

    def touch(self):
        return 'please [[tool: %s {"file_path": "%s", "content": "hi"}]]' % (self.tool, self.work / "a.txt")

    def text(self):
        return "".join(m["params"]["update"]["content"]["text"] for m in self.t.seen if m.get("method") == "session/update"
                       and m["params"]["update"]["sessionUpdate"] == "agent_message_chunk")

    def test_allowed_it_is_done_and_refused_it_is_not(self):
        self.open()
        self.new()
        n = self.prompt(self.touch())
        q = self.question()
        self.assertEqual({"allow_once", "reject_once"} - {o["kind"] for o in q["params"]["options"]}, set())
        self.choose(q, "reject_once")
        r = self.answer_to(n)
        self.assertEqual(r["result"]["stopReason"], "cancelled" if self.reject_ends else "end_turn")
        self.assertFalse((self.work / "a.txt").exists())
        n = self.prompt(self.touch())
        self.choose(self.question(), "allow_once")
        self.assertEqual(self.answer_to(n)["result"]["stopReason"], "end_turn")
        self.assertTrue((self.work / "a.txt").exists())
        kinds = {m["params"]["update"]["sessionUpdate"] for m in self.t.seen if m.get("method") == "session/update"}
        self.assertLessEqual({"agent_message_chunk", "tool_call_update"}, kinds)

    def test_a_cancel_ends_the_turn_and_leaves_the_session_usable(self):
        self.open()
        self.new()
        n = self.prompt(self.touch())
        q = self.question()
        self.t.send({"jsonrpc": "2.0", "method": "session/cancel", "params": {"sessionId": self.sid}})
        self.t.send({"jsonrpc": "2.0", "id": q["id"], "result": {"outcome": {"outcome": "cancelled"}}})
        self.assertEqual(self.answer_to(n)["result"]["stopReason"], "cancelled")
        self.t.seen.clear()
        n = self.prompt("[[text: still here]]")
        self.assertEqual(self.answer_to(n)["result"]["stopReason"], "end_turn")
        self.assertTrue(self.text().endswith("still here"), self.text())

    def test_401_is_an_error_and_an_unknown_session_too(self):
        self.open()
        self.new()
        r = self.answer_to(self.prompt("x [[status: 401]]"))
        self.assertIn(r["error"]["code"], (-32000, 401), r)
        r = self.answer_to(self.ask("session/load", sessionId="11111111-2222-4333-8444-555555555555", cwd=str(self.work), mcpServers=[]))
        self.assertIn("error", r)


class Resumes:
    def test_another_process_loads_the_session(self):
        self.open()
        self.new()
        self.answer_to(self.prompt("[[text: the first]]"))
        sid = self.sid
        self.t.end()
        self.open()
        self.sid = sid
        self.call("session/load", sessionId=sid, cwd=str(self.work), mcpServers=[])
        self.assertIn("the first", self.text(), "history is replayed")
        self.t.seen.clear()
        self.answer_to(self.prompt("[[text: the second]]"))
        self.assertTrue(self.text().endswith("the second"))


class AcpStandIn(AcpTalks, Resumes, World):
    program = [PEERS / "fake_acp.py"]


@needs_peer("claude-agent-acp", "node")
class AcpClaude(AcpTalks, Resumes, World):
    program = [BIN / "claude-agent-acp"]


@needs_peer("gemini", "node")
class AcpGemini(AcpTalks, World):
    program, more_args, tool = [BIN / "gemini"], ["--acp", "--skip-trust", "-m", "gemini-2.5-flash"], "write_file"


@needs_peer("codex-acp", "node")
class AcpCodex(AcpTalks, Resumes, World):
    program, mode, reject_ends = [BIN / "codex-acp"], "workspace-write", True

    def touch(self):
        return 'please [[tool: exec_command {"cmd": "touch a.txt", "sandbox_permissions": "require_escalated", "justification": "a test"}]]'


class CodexTalks:
    def open(self):
        self.home, self.work = self.dir / "home", self.dir / "work"
        self.work.mkdir(exist_ok=True)
        if not hasattr(self, "m"):
            self.m = models(self)
        self.t = Talk([*self.program, "app-server"], ai_env(self.home, self.m), self.work)
        self.addCleanup(self.t.kill)
        self.n = 0
        self.call("initialize", clientInfo={"name": "test", "title": "test", "version": "1"})
        self.t.send({"method": "initialized"})

    def call(self, method, **params):
        self.n += 1
        self.t.send({"id": self.n, "method": method, "params": params})
        m = self.t.until(f"the answer to {method}", lambda m: m.get("id") == self.n and "method" not in m)
        self.assertIn("result", m, m)
        return m["result"]

    def start(self):
        self.thread = self.call("thread/start", cwd=str(self.work), approvalPolicy="on-request", sandbox="workspace-write")["thread"]["id"]

    def turn(self, text):
        return self.call("turn/start", threadId=self.thread, input=[{"type": "text", "text": text}])["turn"]["id"]

    def over(self):
        return self.t.until("the end of the turn", lambda m: m.get("method") == "turn/completed")["params"]["turn"]

    def escalate(self):
        return 'x [[tool: exec_command {"cmd": "touch a.txt", "sandbox_permissions": "require_escalated", "justification": "a test"}]]'

    def question(self):
        return self.t.until("the question", lambda m: m.get("method") == "item/commandExecution/requestApproval")

    def test_accepted_it_is_done_and_declined_it_is_not(self):
        self.open()
        self.start()
        for decision, there in (("decline", False), ("accept", True)):
            self.turn(self.escalate())
            q = self.question()
            self.assertIn("touch a.txt", q["params"]["command"])
            self.t.send({"id": q["id"], "result": {"decision": decision}})
            self.assertEqual(self.over()["status"], "completed")
            self.assertEqual((self.work / "a.txt").exists(), there)
        items = [m["params"]["item"] for m in self.t.seen if m.get("method") == "item/completed"]
        self.assertEqual([i["status"] for i in items if i["type"] == "commandExecution"], ["declined", "completed"])
        self.assertTrue([m for m in self.t.seen if m.get("method") == "item/agentMessage/delta"])
        total = [m["params"]["tokenUsage"]["total"]["inputTokens"] for m in self.t.seen if m.get("method") == "thread/tokenUsage/updated"]
        self.assertEqual(total, sorted(total))

    def test_an_interrupt_takes_back_the_question(self):
        self.open()
        self.start()
        turn = self.turn(self.escalate())
        q = self.question()
        self.n += 1
        self.t.send({"id": self.n, "method": "turn/interrupt", "params": {"threadId": self.thread, "turnId": turn}})
        self.assertEqual(self.over()["status"], "interrupted")
        done = lambda m: m.get("method") == "serverRequest/resolved"  # noqa: E731
        r = next((m for m in self.t.seen if done(m)), None) or self.t.until("the question's end", done)
        self.assertEqual(r["params"]["requestId"], q["id"])

    def test_an_api_failure_fails_the_turn_with_its_status(self):
        self.open()
        self.start()
        for status in (401, 429):
            self.turn(f"x [[status: {status}]]")
            end = self.over()
            self.assertEqual(end["status"], "failed")
            info = end["error"]["codexErrorInfo"]
            self.assertEqual([v["httpStatusCode"] for v in info.values()], [status])

    def test_another_process_resumes_the_thread(self):
        self.open()
        self.start()
        self.turn("[[text: one]]")
        self.over()
        self.t.end()
        self.open()
        self.call("thread/resume", threadId=self.thread, cwd=str(self.work))
        self.turn("[[text: two]]")
        self.assertEqual(self.over()["status"], "completed")
        self.t.send({"id": 99, "method": "thread/resume", "params": {"threadId": "11111111-2222-4333-8444-555555555555"}})
        self.assertIn("error", self.t.until("the refusal", lambda m: m.get("id") == 99))


class CodexStandIn(CodexTalks, World):
    program = [PEERS / "fake_codex.py"]


@needs_peer("codex")
class CodexReal(CodexTalks, World):
    program = [BIN / "codex"]


@needs_peer("node", "mcp-inspector")
class McpStandIn(World):
    """fake_mcp.py, to the official clients."""

    def node(self, *args):
        env = {"PATH": f"{BIN}:{os.path.dirname(sys.executable)}:/usr/bin:/bin", "HOME": str(self.dir), "MODULES": str(BIN.parent / "node_modules")}
        r = subprocess.run([str(a) for a in args], env=env, capture_output=True, text=True, timeout=60 * SLOW, stdin=subprocess.DEVNULL)
        self.assertEqual(r.returncode, 0, r.stderr + r.stdout)
        return json.loads(r.stdout)

    def hold(self, era, *target):
        got = self.node(BIN / "node", PEERS / "mcp_client.mjs", era, *target)
        self.assertEqual(got["version"], {"legacy": "2025-11-25", "modern": "2026-07-28"}[era])
        self.assertIn("slow", got["tools"])
        self.assertEqual(got["echo"], {"text": "ho", "error": False})
        self.assertEqual(got["add"]["structured"], {"sum": 5})
        self.assertEqual(got["fail"], {"text": "no", "error": True})
        self.assertEqual(got["slow"]["text"], "3 steps done")
        # This client drops what it reads in the same breath as the result.
        self.assertIn(got["progress"], ([1], [1, 2], [1, 2, 3]))
        self.assertEqual(got["ask"]["text"], "they said blue")
        self.assertIn("no_such_tool", got["unknown"]["thrown"])

    def test_the_official_client_of_both_eras_over_stdin_and_stdout(self):
        for era in ("legacy", "modern"):
            self.hold(era, sys.executable, PEERS / "fake_mcp.py")

    def test_the_official_client_of_both_eras_over_http(self):
        p = subprocess.Popen([sys.executable, PEERS / "fake_mcp.py", "--http", "0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(lambda: (p.stdin.close(), p.wait(10 * SLOW), p.stdout.close()))
        url = f"http://127.0.0.1:{p.stdout.readline().split()[1]}/mcp"
        for era in ("legacy", "modern"):
            self.hold(era, url)

    def test_the_inspector_reads_all_pages_of_its_tools(self):
        got = self.node(BIN / "mcp-inspector", "--cli", sys.executable, PEERS / "fake_mcp.py", "--page", "5", "--method", "tools/list")
        self.assertGreaterEqual(len(got["tools"]), 5)
        got = self.node(BIN / "mcp-inspector", "--cli", sys.executable, PEERS / "fake_mcp.py", "--method", "tools/call", "--tool-name", "add",
                        "--tool-arg", "a=2", "--tool-arg", "b=3")
        self.assertEqual(got["structuredContent"], {"sum": 5})


if __name__ == "__main__":
    unittest.main()
