"""Plug-ins with real programs: a manifest becomes a tool of the hub while both run."""
import json
import os
import shutil
import signal
import unittest

from harness import AGENT, ROOT, World, wait_for


def put(path, text, mode=0o644):
    path.write_text(text)
    path.chmod(mode)


class Plugins(World):
    def tools(self, hub, name="a1"):
        doc = json.loads(hub.cli("agent", "show", name, "-o", "json").stdout)
        return doc["tools"]

    def call(self, hub, tool, value):
        r = hub.cli("call", tool, "--input", json.dumps(value), "-o", "json")
        return r, json.loads(r.stdout) if r.stdout.strip() else {}

    def test_a_manifest_becomes_a_tool_changes_and_goes(self):
        hub = self.hub()
        agent = self.agent(hub, "a1")
        folder = agent.dir / "tools.d"
        put(folder / "hello.sh", """#!/bin/sh
read -r line
echo '{"type":"text","text":"hello from a plug-in"}'
printf '{"type":"result","outputs":{"got":%s}}\\n' "$line"
""", 0o755)
        put(folder / "hello.yaml", "name: demo.hello\ndescription: Says hello\ncommand: [./hello.sh]\neffect: pure\n"
            "input_schema: {type: object, additionalProperties: false, properties: {a: {type: integer}}}\n")
        wait_for("the hub to know the tool", lambda: "demo.hello" in self.tools(hub))
        r, doc = self.call(hub, "demo.hello", {"a": 1})
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertEqual(doc, {"got": {"a": 1}}, doc)
        r, doc = self.call(hub, "demo.hello", {"b": 1})
        self.assertNotEqual(r.returncode, 0)
        self.assertIn("unknown key", r.stdout + r.stderr)
        # Another schema under the same name: the next call is checked against it.
        put(folder / "hello.yaml", "name: demo.hello\ndescription: Says hello\ncommand: [./hello.sh]\neffect: pure\n"
            "version: 2\ninput_schema: {type: object, additionalProperties: false, properties: {b: {type: integer}}}\n")
        wait_for("the new version", lambda: "tool=demo.hello version=2" in agent.proc.text())
        r, doc = self.call(hub, "demo.hello", {"b": 1})
        self.assertEqual(doc, {"got": {"b": 1}}, (doc, r.stderr))
        # A mistake costs this tool, is told, and nothing else happens.
        put(folder / "hello.yaml", "name: demo.hello\ncomand: x\n")
        wait_for("the tool to go", lambda: "demo.hello" not in self.tools(hub))
        self.assertIn("hello.yaml:2:1: unknown key", agent.proc.text())
        r = self.run_cmd(AGENT, "doctor", "--data", agent.dir)
        self.assertIn("hello.yaml:2:1: unknown key", r.stdout)
        self.assertEqual(r.returncode, 1)
        r = hub.cli("exec", "--agent", "a1", "--", "echo", "fine")
        self.assertEqual(r.stdout, "fine\n", r.stderr)

    def test_the_examples_run_and_sighup_reads_them_again(self):
        hub = self.hub()
        folder = self.dir / "manifests"
        folder.mkdir(mode=0o755)
        agent = self.agent(hub, "a1", "--tools-dir", folder)
        for f in (ROOT / "deploy/examples/tools.d").iterdir():
            shutil.copy(f, folder / f.name)
            os.chmod(folder / f.name, 0o755 if f.suffix != ".yaml" else 0o644)
        os.kill(agent.proc.p.pid, signal.SIGHUP)
        wait_for("both tools", lambda: {"host.load", "folder.tidy"} <= set(self.tools(hub)))
        r, doc = self.call(hub, "host.load", {})
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertGreater(doc["uptime_seconds"], 0)
        (self.dir / "mess").mkdir()
        (self.dir / "mess" / "old").write_text("x")
        r, doc = self.call(hub, "folder.tidy", {"folder": str(self.dir / "mess"), "days": 0, "dry_run": True})
        self.assertEqual(doc["deleted"], [str(self.dir / "mess" / "old")], (doc, r.stderr))
        self.assertTrue((self.dir / "mess" / "old").exists())

    def test_a_line_in_other_bytes_than_utf8_costs_the_call_and_not_the_agent(self):
        hub = self.hub()
        agent = self.agent(hub, "a1")
        folder = agent.dir / "tools.d"
        put(folder / "latin.sh", "#!/bin/sh\nprintf '{\"type\":\"text\",\"text\":\"gr\\374n\"}\\n'\n", 0o755)
        put(folder / "latin.yaml", "name: demo.latin\ndescription: Writes Latin-1\ncommand: [./latin.sh]\neffect: pure\n")
        wait_for("the tool", lambda: "demo.latin" in self.tools(hub))
        run = hub.submit({"name": "latin", "steps": [{"id": "a", "uses": "demo.latin"}]})
        error = hub.wait_run(run)["steps"][0]["error"]
        self.assertEqual(error["code"], "bad_event", error)
        self.assertIn("gr\ufffdn", error["message"])
        self.assertEqual(agent.proc.text().count("connected hub="), 1, agent.proc.text())
        self.assertEqual(hub.cli("exec", "--agent", "a1", "--", "echo", "fine").stdout, "fine\n")

    def test_an_agent_that_is_killed_takes_its_plug_ins_with_it(self):
        hub = self.hub()
        agent = self.agent(hub, "a1")
        folder = agent.dir / "tools.d"
        pidfile = self.dir / "pid"
        put(folder / "long.sh", f"#!/bin/sh\nsetsid sh -c 'echo $$ >{pidfile}.new; mv {pidfile}.new {pidfile}; exec sleep 1000' &\nwait\n", 0o755)
        put(folder / "long.yaml", "name: demo.long\ndescription: Long\ncommand: [./long.sh]\n")
        wait_for("the tool", lambda: "demo.long" in self.tools(hub))
        run = hub.submit({"name": "long", "steps": [{"id": "a", "uses": "demo.long"}]})
        wait_for("the plug-in to run", pidfile.exists)
        pid = int(pidfile.read_text())
        agent.kill9()
        agent.start()
        wait_for("its grandchild to be ended", lambda: not os.path.exists(f"/proc/{pid}"))
        wait_for("the run to ask", lambda: hub.run_json(run)["steps"][0]["state"] == "unknown")


if __name__ == "__main__":
    unittest.main()
