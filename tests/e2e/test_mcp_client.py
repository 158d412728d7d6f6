"""MCP servers of an agent's configuration, end to end: their tools are the hub's. The stand-in of
tests/peers everywhere; the official servers (everything, filesystem) where npm has installed them."""
import json
import os
import signal
import subprocess
import sys
import unittest
from pathlib import Path

from ai import PEERS, needs_peer
from harness import AGENT, CLI, World, clean_env, wait_for

FAKE = PEERS / "fake_mcp.py"
BIN = PEERS / "installed" / "bin"
HERE = Path(__file__).resolve().parent


class McpWorld(World):
    def servers(self, hub, servers, name="a1"):
        """An agent with these mcp_servers."""
        conf = self.dir / f"{name}.json"
        conf.write_text(json.dumps({"mcp_servers": servers}))
        return self.agent(hub, name, "--config", conf)

    def tools(self, hub, name="a1"):
        return json.loads(hub.cli("agent", "show", name, "-o", "json").stdout)["tools"]

    def until_tool(self, hub, tool):
        wait_for(f"the hub to know {tool}", lambda: tool in self.tools(hub), 60)

    def call(self, hub, tool, value, ok=True):
        r = hub.cli("call", tool, "--input", json.dumps(value), "-o", "json")
        self.assertEqual(r.returncode == 0, ok, r.stdout + r.stderr)
        return (json.loads(r.stdout) if ok else None), r.stdout + r.stderr

    def status(self, agent):
        r = self.run_cmd(AGENT, "status", "--data", agent.dir, "-o", "json")
        return {s["name"]: s for s in json.loads(r.stdout)["mcp_servers"]}

    def pid_of(self, text):
        """The process whose command line has this text."""
        for p in Path("/proc").iterdir():
            try:
                if p.name.isdigit() and text in (p / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace") and int(p.name) != os.getpid():
                    return int(p.name)
            except OSError:
                pass
        return None


class StandIn(McpWorld):
    def fake(self, *args):
        return [sys.executable, str(FAKE), "--log", str(self.dir / "mcp-messages"), *args]

    def test_tools_of_both_revisions_are_called_through_the_hub(self):
        hub = self.hub()
        self.servers(hub, {"old": {"command": self.fake("--era", "legacy")}, "new": {"command": self.fake("--era", "modern")}})
        for s in ("old", "new"):
            self.until_tool(hub, f"mcp.{s}.add")
            doc, _ = self.call(hub, f"mcp.{s}.add", {"a": 20, "b": 22})
            self.assertEqual(doc["structured"], {"sum": 42})
            _, said = self.call(hub, f"mcp.{s}.fail", {"text": "no paper"}, ok=False)
            self.assertIn("fail says: no paper", said)
            r = hub.cli("call", f"mcp.{s}.slow", "--input", '{"steps":2,"ms":1}')
            self.assertIn("step 2 of 2", r.stderr)

    def test_a_server_killed_in_the_middle_breaks_its_call_and_comes_back(self):
        hub = self.hub()
        agent = self.servers(hub, {"s": {"command": self.fake("--start", "ok")}})
        self.until_tool(hub, "mcp.s.hang")
        run = hub.submit({"name": "x", "steps": [{"id": "a", "uses": "mcp.s.hang"}]})
        messages = self.dir / "mcp-messages"
        wait_for("the call to be there", lambda: '"name": "hang"' in messages.read_text())
        os.kill(self.pid_of(f"{FAKE} --log {messages}"), signal.SIGKILL)
        doc = hub.wait_run(run)
        self.assertEqual(doc["state"], "failed")
        self.assertEqual(doc["steps"][0]["error"]["code"], "server_died", doc)
        self.assertIn("signal 9", doc["steps"][0]["error"]["message"])
        doc, _ = self.call(hub, "mcp.s.echo", {"text": "again"})
        self.assertEqual(doc["text"], "again")
        self.assertEqual(self.status(agent)["s"]["state"], "ready")

    def test_cancelling_a_run_tells_the_server(self):
        hub = self.hub()
        self.servers(hub, {"s": {"command": self.fake()}})
        self.until_tool(hub, "mcp.s.hang")
        run = hub.submit({"name": "x", "steps": [{"id": "a", "uses": "mcp.s.hang"}]})
        messages = self.dir / "mcp-messages"
        wait_for("the call to be there", lambda: '"name": "hang"' in messages.read_text())
        self.assertEqual(hub.cli("run", "cancel", run).returncode, 0)
        self.assertEqual(hub.wait_run(run)["state"], "cancelled")
        wait_for("the server to be told", lambda: "notifications/cancelled" in messages.read_text())

    def test_a_form_is_filled_in_by_a_person(self):
        hub = self.hub()
        self.servers(hub, {"old": {"command": self.fake("--era", "legacy")}, "new": {"command": self.fake("--era", "modern")}})
        for s in ("old", "new"):
            self.until_tool(hub, f"mcp.{s}.ask")
            run = hub.submit({"name": "x", "steps": [{"id": "a", "uses": f"mcp.{s}.ask", "with": {"question": "Which colour?"}}]})
            cp = wait_for("the question", lambda: hub.api("GET", f"/checkpoints?run={run}")[1]["items"])[0]
            self.assertIn("Which colour?", json.dumps(cp))
            r = hub.cli("approve", cp["id"], "--input", "answer=blue")
            self.assertEqual(r.returncode, 0, r.stderr)
            doc = hub.wait_run(run)
            self.assertEqual(doc["state"], "succeeded", doc)
            self.assertEqual(doc["steps"][0]["outputs"]["text"], "they said blue")

    def test_a_server_that_cannot_start_is_told_by_status_and_doctor(self):
        hub = self.hub()
        agent = self.servers(hub, {"bad": {"command": self.fake("--start", "exit")}, "good": {"command": self.fake()}})
        self.until_tool(hub, "mcp.good.echo")
        wait_for("the failure to be known", lambda: "error" in self.status(agent)["bad"])
        self.assertIn("cannot start: --start exit", self.status(agent)["bad"]["error"])
        r = self.run_cmd(AGENT, "doctor", "--data", agent.dir, "--config", self.dir / "a1.json")
        self.assertRegex(r.stdout, r"fail +mcp +bad: .*cannot start: --start exit")
        self.assertRegex(r.stdout, r"ok +mcp +good")

    def test_a_killed_agent_leaves_no_server_behind(self):
        hub = self.hub()
        agent = self.servers(hub, {"s": {"command": self.fake()}})
        self.until_tool(hub, "mcp.s.child")
        self.call(hub, "mcp.s.child", {"file": str(self.dir / "grandchild")})
        pid = int(wait_for("its pid", lambda: (self.dir / "grandchild").exists() and (self.dir / "grandchild").read_text()))
        agent.kill9()
        agent.start()
        wait_for("the grandchild to be ended", lambda: not os.path.exists(f"/proc/{pid}"))
        self.assertIn("mcp.s.echo", self.tools(hub))  # from the disk

    def test_a_mistake_in_the_configuration_stops_the_agent_with_its_place(self):
        hub = self.hub()
        conf = self.dir / "agent.yaml"
        conf.write_text("mcp_servers:\n  s:\n    comand: [x]\n")
        r = self.run_program(AGENT, "run", "--data", self.dir / "x", "--join", hub.join_token(uses=1), "--config", conf)
        self.assertNotEqual(r.returncode, 0)
        self.assertIn('agent.yaml:3:5: unknown key "comand"; did you mean "command"?', r.stderr)


class Http(McpWorld):
    def serve(self, *args):
        p = subprocess.Popen([sys.executable, FAKE, "--http", "0", "--log", self.dir / "http-messages", *args], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True, env=clean_env(self.dir))
        self.addCleanup(p.wait)
        self.addCleanup(p.kill)
        self.addCleanup(p.stdout.close)
        self.addCleanup(p.stdin.close)
        return f"http://127.0.0.1:{p.stdout.readline().split()[1]}/mcp"

    def test_a_remote_server_with_a_token_from_a_file(self):
        hub = self.hub()
        (self.dir / "token").write_text("sesame\n")
        for era in ("legacy", "modern"):
            url = self.serve("--era", era, "--token", "sesame")
            agent = self.servers(hub, {"web": {"url": url, "headers": {"Authorization": {"file": str(self.dir / "token"), "prefix": "Bearer "}}}}, f"a-{era}")
            wait_for("the tool", lambda: "mcp.web.add" in self.tools(hub, f"a-{era}"))
            doc, _ = self.call(hub, "mcp.web.add", {"a": 1, "b": 2})
            self.assertEqual(doc["structured"]["sum"], 3)
            self.assertNotIn("sesame", agent.proc.text())
            agent.proc.stop()


class Official(McpWorld):
    """The servers of the Model Context Protocol's own repository."""

    def server(self, name, *args, **more):
        return {"command": [str(BIN / name), *map(str, args)], "env": {"PATH": f"{BIN}:{os.environ['PATH']}"}, **more}

    @needs_peer("mcp-server-everything", "node")
    def test_everything(self):
        hub = self.hub()
        self.servers(hub, {"everything": self.server("mcp-server-everything", "stdio")})
        self.until_tool(hub, "mcp.everything.echo")
        doc, _ = self.call(hub, "mcp.everything.echo", {"message": "hello"})
        self.assertEqual(doc["text"], "Echo: hello")
        tools = self.tools(hub)
        r = hub.cli("call", "mcp.everything.trigger-long-running-operation", "--input", '{"duration":1,"steps":2}')
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertIn("2", r.stdout)
        doc, _ = self.call(hub, "mcp.everything.get-structured-content", {"location": "New York"})
        self.assertIn("temperature", doc["structured"])
        doc, _ = self.call(hub, "mcp.everything.get-tiny-image", {})
        self.assertEqual([b["type"] for b in doc["content"]], ["image"])
        _, said = self.call(hub, "mcp.everything.get-sum", {"a": 1}, ok=False)
        self.assertIn('the key "b" is missing', said)
        self.assertTrue(any(t.startswith("mcp.everything.") for t in tools))

    @needs_peer("mcp-server-everything", "node")
    def test_a_question_of_everything_goes_to_a_person(self):
        hub = self.hub()
        self.servers(hub, {"everything": self.server("mcp-server-everything", "stdio")})
        self.until_tool(hub, "mcp.everything.trigger-elicitation-request")
        run = hub.submit({"name": "x", "steps": [{"id": "a", "uses": "mcp.everything.trigger-elicitation-request"}]})
        cp = wait_for("the question", lambda: hub.api("GET", f"/checkpoints?run={run}")[1]["items"], 60)[0]
        r = hub.cli("approve", cp["id"], "--input", "name=Ada")
        self.assertEqual(r.returncode, 0, r.stderr)
        doc = hub.wait_run(run)
        self.assertEqual(doc["state"], "succeeded", doc)
        self.assertIn("Ada", doc["steps"][0]["outputs"]["text"])

    @needs_peer("mcp-server-filesystem", "node")
    def test_filesystem(self):
        hub = self.hub()
        folder = self.dir / "files"
        folder.mkdir()
        (folder / "a.txt").write_text("content of a\n")
        agent = self.servers(hub, {"files": self.server("mcp-server-filesystem", folder)})
        self.until_tool(hub, "mcp.files.read_text_file")
        doc, _ = self.call(hub, "mcp.files.read_text_file", {"path": str(folder / "a.txt")})
        self.assertEqual(doc["text"], "content of a\n")
        _, said = self.call(hub, "mcp.files.read_text_file", {"path": "/etc/hostname"}, ok=False)
        self.assertIn("Access denied", said)
        # Killed between two calls: the next one starts it again.
        os.kill(self.pid_of(f"mcp-server-filesystem {folder}"), signal.SIGKILL)
        wait_for("the agent to notice", lambda: self.status(agent)["files"]["state"] == "off")
        doc, _ = self.call(hub, "mcp.files.list_directory", {"path": str(folder)})
        self.assertIn("a.txt", doc["text"])


# What the suite asks of clients, but for OAuth (an agent has its credentials from its owner).
LEGACY_SCENARIOS = ["initialize", "tools_call", "elicitation-sep1034-client-defaults", "sse-retry"]
MODERN_SCENARIOS = ["tools_call", "request-metadata", "sep-2322-client-request-state", "http-standard-headers", "http-custom-headers",
                    "http-invalid-tool-headers", "json-schema-ref-no-deref"]


class Conformance(McpWorld):
    """The official conformance suite against an agent as the client."""

    def scenario(self, hub, revision, name):
        world = self.dir / "world.json"
        env = clean_env(self.dir, PHOTON_HUB=hub.url, PHOTON_TOKEN=hub.token, PHOTON_CA=hub.ca)
        world.write_text(json.dumps({"env": env, "cli": str(CLI), "agent": str(AGENT), "dir": str(self.dir), "token": hub.join_token(uses=1)}))
        r = subprocess.run([BIN / "node", (BIN / "conformance").resolve(), "client", "--command", f"{sys.executable} {HERE / 'mcp_agent_client.py'} {world}",
                            "--scenario", name, "--spec-version", revision, "--timeout", "150000", "--verbose"],
                           cwd=self.dir, env=clean_env(self.dir), capture_output=True, text=True, timeout=200)
        return r.returncode == 0, r.stdout + r.stderr

    @needs_peer("conformance", "node")
    def test_legacy(self):
        self.all_pass("2025-11-25", LEGACY_SCENARIOS)

    @needs_peer("conformance", "node")
    def test_modern(self):
        self.all_pass("2026-07-28", MODERN_SCENARIOS)

    def all_pass(self, revision, names):
        hub = self.hub()
        for name in names:
            with self.subTest(f"{revision} {name}"):
                ok, said = self.scenario(hub, revision, name)
                self.assertTrue(ok, said[-4000:])


if __name__ == "__main__":
    unittest.main()
