"""The real Claude Code, Codex and Gemini CLI as MCP clients of a hub: each is set up as docs/MCP.md
says, its model (a stand-in) wants a tool run on an agent, and what the tool wrote reaches the model."""
import json
import subprocess

from ai import BIN, ai_env, models, needs_peer
from harness import CLI, SLOW, World

WANTED = json.dumps({"tool": "process.exec", "agent": "a1", "input": {"argv": ["echo", "written on a1"]}})


class Clients(World):
    def setUp(self):
        super().setUp()
        self.h = self.hub()
        self.agent(self.h, "a1")
        self.m = models(self)
        self.home, self.work = self.dir / "home", self.dir / "work"
        self.work.mkdir()
        self.env = ai_env(self.home, self.m)
        r = self.h.cli("api-token", "create", "--name", "model", "--role", "client")
        self.assertEqual(r.returncode, 0, r.stderr)
        self.token = r.stdout.strip()
        self.photon = {"PHOTON_HUB": self.h.url, "PHOTON_TOKEN": self.token, "PHOTON_CA": str(self.h.ca)}

    def run_client(self, *args, **env):
        r = subprocess.run([str(a) for a in args], cwd=self.work, env={**self.env, **env}, stdin=subprocess.DEVNULL, capture_output=True,
                           text=True, timeout=240 * SLOW)
        self.assertEqual(r.returncode, 0, r.stdout[-2000:] + r.stderr[-2000:])
        return r.stdout

    def check(self):
        """One call, made by the model's token on the agent, and its output in what the model was sent then."""
        runs = self.h.api("GET", "/runs")[1]["items"]
        self.assertEqual([(x["workflow"], x["state"], x["created_by"]) for x in runs], [("process.exec", "succeeded", "model")])
        self.assertEqual(self.h.run_json(runs[0]["id"])["steps"][0]["agent"], "a1")
        told = json.dumps(self.m.requests()[-1]["body"]).replace("\\", "")  # JSON in JSON in JSON
        self.assertIn('"output":"written on a1n"', told)

    def claude(self, server, **env):
        config = self.dir / "mcp.json"
        config.write_text(json.dumps({"mcpServers": {"photon": server}}))
        self.run_client(BIN / "claude", "-p", f"[[tool: mcp__photon__run_tool {WANTED}]]", "--mcp-config", config, "--strict-mcp-config",
                        "--allowedTools", "mcp__photon__run_tool", "--output-format", "json", ENABLE_TOOL_SEARCH="false",
                        MCP_CONNECTION_NONBLOCKING="false", **env)
        self.check()

    @needs_peer("claude")
    def test_claude_code_on_stdio(self):
        self.claude({"command": str(CLI), "args": ["mcp"], "env": self.photon})

    @needs_peer("claude")
    def test_claude_code_over_https(self):
        self.claude({"type": "http", "url": f"{self.h.url}/mcp", "headers": {"Authorization": f"Bearer {self.token}"}},
                    NODE_EXTRA_CA_CERTS=str(self.h.ca))

    @needs_peer("codex")
    def test_codex_on_stdio(self):
        config = self.home / ".codex" / "config.toml"
        lines = ["[mcp_servers.photon]", f'command = "{CLI}"', 'args = ["mcp"]', "tool_timeout_sec = 3600", "[mcp_servers.photon.env]",
                 *(f'{k} = "{v}"' for k, v in self.photon.items()), "[mcp_servers.photon.tools.run_tool]", 'approval_mode = "approve"']
        config.write_text(config.read_text() + "\n" + "\n".join(lines) + "\n")
        self.run_client(BIN / "codex", "exec", "--json", "--skip-git-repo-check", "-s", "workspace-write",
                        f"[[tool: mcp__photon.run_tool {WANTED}]]")
        self.check()

    @needs_peer("gemini")
    def test_gemini_cli_on_stdio(self):
        settings = self.home / ".gemini" / "settings.json"
        doc = json.loads(settings.read_text())
        doc["mcpServers"] = {"photon": {"command": str(CLI), "args": ["mcp"], "env": self.photon, "trust": True, "timeout": 3600000}}
        settings.write_text(json.dumps(doc))
        self.run_client(BIN / "gemini", "-p", f"[[tool: mcp_photon_run_tool {WANTED}]]", "--skip-trust", "-m", "gemini-2.5-pro", "-o", "json")
        self.check()
