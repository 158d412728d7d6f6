"""Named platforms through hub and agent, as people use them: with the real programs where they
are installed, with the project's stand-ins everywhere. And the founding operation, as it stands."""
import json
import os
import signal

from ai import KEY, PEERS, ai_env, ai_policy, models, needs_peer, stand_in_bin
from harness import ROOT, World, wait_for


class Platforms(World):
    real = False

    def setUp(self):
        super().setUp()
        self.home, self.work = self.dir / "home", self.dir / "work"
        self.work.mkdir()

    def begin(self, **env):
        self.m = models(self)
        self.h = self.hub()
        e = ai_env(self.home, self.m, real=self.real, **env)
        self.a = self.agent(self.h, "a1", policy=ai_policy(e, self.work))

    def submit(self, tool, prompt, **more):
        return self.h.submit({"name": "one", "steps": [
            {"id": "s", "uses": tool, "agent": "a1", "with": {"prompt": prompt, "cwd": str(self.work), **more}}]})

    def call(self, tool, prompt, **more):
        return self.h.wait_run(self.submit(tool, prompt, **more))["steps"][0]

    def descendants(self):
        """Processes that carry the marks of this agent's calls."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/environ", "rb") as f:
                    if f"{self.a.dir}/scratch/".encode() in f.read() and open(f"/proc/{pid}/stat").read().split(") ")[1][0] != "Z":
                        found.append(int(pid))
            except OSError:
                pass
        return found

    def nothing_left(self):
        wait_for("every process of the call to be gone", lambda: not self.descendants())


class Calls:
    """What every platform does alike. `write`: a prompt that makes it write NAME; `run`: that runs a command."""

    def test_it_answers_with_text_session_usage_and_events(self):
        self.begin()
        s = self.call(self.tool, "hello [[text: hi there]]")
        self.assertEqual(s["state"], "succeeded", s)
        self.assertEqual(s["outputs"]["text"], "hi there")
        self.assertTrue(s["outputs"]["session"])
        self.assertGreater(s["outputs"]["usage"]["input_tokens"], 0)
        self.assertEqual(s["outputs"]["files_changed"], [])

    def test_allowed_by_the_calls_mode_it_writes_and_the_change_is_seen(self):
        self.begin()
        s = self.call(self.tool, self.write("a.txt"), permission_mode="allow")
        self.assertEqual(s["state"], "succeeded", s)
        self.assertEqual((self.work / "a.txt").read_text().strip(), "hi")
        self.assertEqual(s["outputs"]["files_changed"], [{"path": "a.txt", "change": "added"}])

    def test_denied_by_the_calls_mode_it_writes_nothing(self):
        self.begin()
        s = self.call(self.tool, self.write("a.txt"), permission_mode="deny")
        self.assertFalse((self.work / "a.txt").exists())
        self.assertEqual(s["outputs"]["permissions_denied"], 1, s)
        self.assertEqual(s["outputs"]["files_changed"], [])

    def test_a_session_goes_on_in_a_later_step_and_pays_for_itself(self):
        self.begin()
        run = self.h.submit({"name": "two", "steps": [
            {"id": "a", "uses": self.tool, "agent": "a1", "with": {"prompt": "[[text: one]]", "cwd": str(self.work)}},
            {"id": "b", "uses": self.tool, "agent": "a1", "needs": "a",
             "with": {"prompt": "[[text: two]]", "session": "${{ steps.a.outputs.session }}"}}]})
        a, b = self.h.wait_run(run)["steps"]
        self.assertEqual(b["state"], "succeeded", b)
        self.assertEqual(b["outputs"]["text"], "two")
        self.assertEqual(b["outputs"]["usage"]["output_tokens"], a["outputs"]["usage"]["output_tokens"])
        if "cost_usd" in a["outputs"]:
            self.assertAlmostEqual(b["outputs"]["cost_usd"], a["outputs"]["cost_usd"], places=6)

    def test_each_failure_of_the_api_has_its_code(self):
        self.begin()
        for status, code in ((400, "bad_request"), (401, "auth_failed"), (429, "rate_limited"), (500, "server_error"),
                             (529, "overloaded")):
            s = self.call(self.tool, f"x [[status: {status}]]")
            self.assertEqual((s["state"], s["error"]["code"]), ("failed", code), s)

    def test_cancelled_while_a_command_runs_nothing_of_it_lives_on(self):
        self.begin()
        began = self.work / "began"
        run = self.submit(self.tool, self.command(f"touch {began}; python3 -c 'import time; time.sleep(300)'"), permission_mode="allow")
        wait_for("the command to run", began.exists, 60)
        self.assertTrue(self.descendants())
        self.h.api("POST", f"/runs/{run}/cancel")
        doc = self.h.wait_run(run)
        self.assertEqual(doc["steps"][0]["error"]["code"], "cancelled", doc)
        self.assertIn({"path": "began", "change": "added"}, doc["steps"][0]["outputs"]["files_changed"])
        self.nothing_left()

    def test_killed_while_a_command_runs_the_step_fails_and_nothing_lives_on(self):
        self.begin()
        began = self.work / "began"
        run = self.submit(self.tool, self.command(f"touch {began}; python3 -c 'import time; time.sleep(300)'"), permission_mode="allow")
        wait_for("the command to run", began.exists, 60)
        kids = {int(p) for t in os.listdir(f"/proc/{self.a.proc.p.pid}/task")
                for p in open(f"/proc/{self.a.proc.p.pid}/task/{t}/children").read().split()}
        main = kids & set(self.descendants())
        self.assertEqual(len(main), 1, (kids, self.descendants()))
        os.kill(main.pop(), signal.SIGKILL)
        s = self.h.wait_run(run)["steps"][0]
        self.assertEqual((s["state"], s["error"]["code"]), ("failed", "stream_ended"), s)
        self.nothing_left()

    def test_the_agent_is_killed_and_nothing_lives_on(self):
        self.begin()
        began = self.work / "began"
        self.submit(self.tool, self.command(f"touch {began}; python3 -c 'import time; time.sleep(300)'"), permission_mode="allow")
        wait_for("the command to run", began.exists, 60)
        self.a.kill9()
        self.a.token = None
        self.a.start()
        self.nothing_left()

    def test_the_machines_programs_are_told_with_version_and_login(self):
        self.begin()

        def told():
            detail = {t["name"]: t.get("detail") for t in self.h.api("GET", "/agents/a1")[1]["tool_details"]}.get(self.tool)
            return detail if detail and detail.get("version") else None
        detail = wait_for("the version", told, 60)
        self.assertEqual(detail["login"], "yes")
        self.assertNotIn(KEY, json.dumps(self.h.api("GET", "/agents/a1")[1]["platforms"]))
        shown = self.h.cli("agent", "show", "a1").stdout
        self.assertIn(f"{detail['program']} {detail['version']}", shown)
        self.assertIn(f"{detail['program']} {detail['version']}", self.h.cli("agents").stdout)


class ClaudeCalls(Calls):
    tool = "claude-code.prompt"

    def write(self, name):
        return 'w [[tool: Write {"file_path": "%s", "content": "hi"}]]' % (self.work / name)

    def command(self, text):
        return "w [[tool: Bash %s]]" % json.dumps({"command": text, "description": "x"})


class CodexCalls(Calls):
    tool = "codex.prompt"

    def write(self, name):
        return self.command(f"echo hi > {name}")

    def command(self, text):
        return "w [[tool: exec_command %s]]" % json.dumps({"cmd": text, "yield_time_ms": 100000})


class TestStandInClaude(ClaudeCalls, Platforms):
    pass


class TestStandInCodex(CodexCalls, Platforms):
    def test_its_commands_are_in_one_sandbox_ours_or_its_own(self):
        self.m, self.h = models(self), self.hub()
        env = ai_env(self.home, self.m, real=False)
        for ours, by_mode in (("best-effort", {"allow": "danger-full-access", "deny": "danger-full-access"}),
                              ("off", {"allow": "workspace-write", "deny": "read-only"})):
            self.agent(self.h, ours, policy=ai_policy(env, self.work, f"sandbox: {{mode: {ours}}}\n"))
            for mode, its in by_mode.items():
                run = self.h.submit({"name": "one", "steps": [
                    {"id": "s", "uses": self.tool, "agent": ours,
                     "with": {"prompt": "[[sandbox]]", "cwd": str(self.work), "permission_mode": mode}}]})
                self.assertEqual(self.h.wait_run(run)["steps"][0]["outputs"]["text"], its, (ours, mode))


@needs_peer("claude")
class TestRealClaude(ClaudeCalls, Platforms):
    real = True

    def test_what_the_policy_denies_is_denied_where_it_would_not_ask(self):
        self.m = models(self)
        self.h = self.hub()
        secret = self.work / "secret.txt"
        secret.write_text("the treasure lies here\n")
        e = ai_env(self.home, self.m)
        self.a = self.agent(self.h, "a1", policy=ai_policy(e, self.work).replace(
            "write:", f"deny: [{json.dumps(str(secret))}], write:"))
        s = self.call(self.tool, 'r [[tool: Read {"file_path": "%s"}]]' % secret, permission_mode="allow")
        self.assertEqual(s["state"], "succeeded", s)
        self.assertNotIn("treasure", json.dumps(self.m.requests()))
        self.assertEqual(s["outputs"]["permissions_denied"], 1, s)


@needs_peer("codex")
class TestRealCodex(CodexCalls, Platforms):
    real = True

    def sent(self):
        return json.dumps([q["body"] for q in self.m.requests()])

    def test_what_is_allowed_runs_once_and_is_asked_once(self):
        """Its own sandbox does not work inside of ours, so there it has none."""
        self.begin()
        run = self.submit(self.tool, self.write("a.txt"), permission_mode="allow")
        s = self.h.wait_run(run)["steps"][0]
        self.assertEqual(s["state"], "succeeded", s)
        self.assertIn("Process exited with code 0", self.sent())
        self.assertNotIn("bwrap", self.sent())
        log = self.h.cli("logs", run, "s", "-o", "json", "--channel", "event").stdout
        asked = [e["event"] for e in map(json.loads, log.splitlines()) if e["event"]["type"] == "question"]
        self.assertEqual(len(asked), 1, asked)

    def test_a_patch_too_is_asked_for_where_it_has_no_sandbox_of_its_own(self):
        self.begin()
        patch = "apply_patch <<'EOF'\n*** Begin Patch\n*** Add File: p.txt\n+hi\n*** End Patch\nEOF\n"
        s = self.call(self.tool, self.command(patch), permission_mode="deny")
        self.assertEqual((s["state"], s["outputs"]["permissions_denied"]), ("succeeded", 1), s)
        self.assertFalse((self.work / "p.txt").exists())
        s = self.call(self.tool, self.command(patch), permission_mode="allow")
        self.assertEqual(s["outputs"]["files_changed"], [{"path": "p.txt", "change": "added"}], s)


class TestMissing(Platforms):
    def test_a_platform_that_is_not_there_is_not_offered_and_comes_when_it_is_installed(self):
        bin_dir = self.dir / "bin"
        bin_dir.mkdir()
        self.begin(PATH=f"{bin_dir}:/usr/bin:/bin")
        self.assertNotIn("codex.prompt", self.h.agents()["a1"]["tools"])
        (bin_dir / "codex").symlink_to(PEERS / "fake_codex.py")
        self.a.proc.p.send_signal(signal.SIGHUP)
        wait_for("the hub to hear of it", lambda: "codex.prompt" in self.h.agents()["a1"]["tools"])
        s = self.call("codex.prompt", "[[text: here]]")
        self.assertEqual(s["outputs"]["text"], "here", s)


class TestFoundingOperation(Platforms):
    def test_it_runs_as_it_stands_on_four_agents(self):
        """A has Cursor, C Claude Code, B Gemini, D an account at Z.AI; the prompts are the actions with
        their inputs attached."""
        m, hub = models(self), self.hub()
        for name, has in (("A", ["cursor-agent"]), ("C", ["claude"]), ("B", ["gemini"]), ("D", [])):
            home = self.dir / f"home-{name}"
            every = stand_in_bin(home / "stand-ins")
            own = home / "bin"
            own.mkdir()
            for program in has:
                (own / program).symlink_to((every / program).resolve())
            env = ai_env(home, m, real=False, PATH=f"{own}:/usr/bin:/bin", CURSOR_API_KEY=KEY)
            conf = self.dir / f"{name}.yaml"
            conf.write_text(f"models:\n  - name: zai\n    kind: zai\n    base_url: {m.url}/api/paas/v4\n    key_file: {self.dir}/key\n"
                            "    models: [glm-5]\n" if name == "D" else "")
            key = self.dir / "key"
            key.write_text(KEY)
            key.chmod(0o600)
            conf.chmod(0o600)
            self.agent(hub, name, "--config", conf, policy=ai_policy(env, self.work))
        r = hub.cli("run", ROOT / "tests/data/seed-operation.json")
        self.assertEqual(r.returncode, 0, r.stdout + r.stderr)
        run = hub.api("GET", "/runs")[1]["items"][0]["id"]
        doc = hub.run_json(run)
        self.assertEqual([(s["id"], s["agent"], s["tool"], s["state"]) for s in doc["steps"]], [
            ("1", "A", "cursor.prompt", "succeeded"), ("2", "C", "claude-code.prompt", "succeeded"),
            ("3", "B", "gemini.prompt", "succeeded"), ("4", "D", "zai.chat", "succeeded")], doc)
        sent = json.dumps(m.requests("/api/paas/v4"))
        self.assertIn("deploy-production", sent)
        self.assertIn("environment", sent)


del Calls, ClaudeCalls, CodexCalls
