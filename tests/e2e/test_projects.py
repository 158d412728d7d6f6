"""Projects as people meet them: two teams on one hub, over restarts, by command line, API, events and MCP."""
import http.client
import json
import ssl
import threading
import unittest

from harness import World, wait_for

FLOW = "steps:\n  - {id: a, run: echo of the team}\n"


class Stream:
    """Events as they come, read beside the test."""

    def __init__(self, hub, path, token):
        self.c = http.client.HTTPSConnection("127.0.0.1", hub.ports[1], timeout=60, context=ssl.create_default_context(cafile=str(hub.ca)))
        self.c.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        self.r = self.c.getresponse()
        self.text, self.over = "", False
        self.t = threading.Thread(target=self.read, daemon=True)
        self.t.start()

    def read(self):
        try:
            while line := self.r.readline():
                self.text += line.decode()
        except OSError:
            pass
        self.over = True


class Projects(World):
    def two_teams(self):
        hub = self.hub()
        self.agent(hub, "a1")
        ann = self.red_and_blue(hub)
        (self.dir / "w.yaml").write_text(FLOW)
        runs = {}
        for name in ("red", "blue"):
            r = hub.cli("run", "--project", name, "-o", "json", self.dir / "w.yaml")
            self.assertEqual(r.returncode, 0, r.stderr)
            runs[name] = r.stderr.split()[0]
        return hub, ann, runs

    def test_the_other_team_is_not_there_by_any_road_also_after_a_restart(self):
        hub, ann, runs = self.two_teams()
        for again in (False, True):
            if again:
                hub.kill9()
                hub.restart()
            r = hub.cli("--token", ann, "runs", "-o", "json")
            ids = [x["id"] for x in json.loads(r.stdout)]
            self.assertIn(runs["red"], ids)
            self.assertNotIn(runs["blue"], ids)
            self.assertEqual(hub.cli("--token", ann, "logs", runs["red"]).stdout, "of the team\n")
            for args in (("run", "show"), ("logs",), ("run", "cancel"), ("run", "retry"), ("explain",)):
                r = hub.cli("--token", ann, *args, runs["blue"])
                self.assertNotEqual(r.returncode, 0, args)
                self.assertIn("there is no run", r.stderr, args)
            r = hub.cli("--token", ann, "run", "--project", "blue", self.dir / "w.yaml")
            self.assertIn("there is no project 'blue'", r.stderr)
            # What she makes goes where she belongs.
            r = hub.cli("--token", ann, "exec", "-n", "-o", "json", "--", "true")
            self.assertEqual(r.returncode, 0, r.stderr)
            self.assertEqual({x["project"] for x in hub.api("GET", "/runs", token=ann)[1]["items"]}, {"red"})
            text = hub.api("GET", "/events?follow=false&after=0", token=ann, raw=True)[1].decode()
            self.assertIn(runs["red"], text)
            self.assertNotIn(runs["blue"], text)
            self.assertIn("agent.online", text)
            self.assertEqual(hub.api("POST", "/projects/red/archive", {})[0], 200)
            self.assertEqual(hub.api("POST", "/calls", {"tool": "echo"}, token=ann)[1]["code"], "project_archived")
            self.assertEqual(hub.api("POST", "/projects/red/unarchive", {})[0], 200)

    def test_who_is_deleted_stays_so_over_kill_9_and_the_last_admin_stays(self):
        hub = self.hub()
        self.assertEqual(hub.cli("user", "create", "ann").returncode, 0)
        self.assertEqual(hub.cli("user", "grant", "ann", "operator", "--project", "*").returncode, 0)
        ann = hub.cli("api-token", "create", "--name", "a", "--user", "ann", "--role", "operator").stdout.strip()
        self.assertEqual(hub.api("GET", "/runs", token=ann)[0], 200)
        self.assertEqual(hub.cli("user", "delete", "ann").returncode, 0)
        for _ in range(2):
            self.assertEqual(hub.api("GET", "/runs", token=ann)[0], 401)
            self.assertEqual(hub.api("GET", "/users")[1]["items"], [])
            self.assertEqual(hub.api("POST", "/users", {"name": "ann"})[0], 409)
            me = hub.api("GET", "/whoami")[1]["token_id"]
            r = hub.cli("api-token", "revoke", me)
            self.assertEqual(r.returncode, 1, r.stderr)
            self.assertIn("nobody could rule this hub", r.stderr)
            hub.kill9()
            hub.start()

    def test_a_stream_ends_with_the_right_to_it(self):
        hub, ann, runs = self.two_teams()
        admin = Stream(hub, "/api/v1/events", hub.token)
        hers = Stream(hub, "/api/v1/events", ann)
        self.assertEqual((admin.r.status, hers.r.status), (200, 200))
        before = hub.cli("run", "--project", "red", "-d", self.dir / "w.yaml").stderr.split()[0]
        wait_for("an event", lambda: before in hers.text)
        self.assertEqual(hub.cli("user", "ungrant", "ann", "--project", "red").returncode, 0)
        after = hub.cli("run", "--project", "red", "-d", self.dir / "w.yaml").stderr.split()[0]
        wait_for("the admin's event", lambda: after in admin.text)
        wait_for("the end of her stream", lambda: hers.over)
        self.assertNotIn(after, hers.text)
        self.assertFalse(admin.over)
        self.assertEqual(hub.api("GET", "/events?follow=false", token=ann)[0], 403)

    def test_mcp_is_no_way_around(self):
        hub, ann, runs = self.two_teams()

        def call(name, **args):
            return self.mcp(hub, ann, name, args)

        status, doc = call("list_runs")
        text = json.dumps(doc)
        self.assertIn(runs["red"], text)
        self.assertNotIn(runs["blue"], text)
        for tool, args in (("get_run", {}), ("watch_run", {"wait": "1s"}), ("cancel_run", {}), ("retry_run", {}), ("read_logs", {}),
                           ("explain_run", {}), ("resolve_step", {"step": "a", "outcome": "failed"})):
            status, doc = call(tool, run=runs["blue"], **args)
            self.assertTrue(doc["result"]["isError"], (tool, doc))
            self.assertIn("there is no run", json.dumps(doc), tool)
        status, doc = call("run_tool", tool="echo", input={"text": "x"}, project="blue")
        self.assertIn("there is no project", json.dumps(doc))
        status, doc = call("run_tool", tool="process.exec", input={"argv": ["true"]})
        self.assertFalse(doc["result"].get("isError"), doc)
        self.assertEqual({x["project"] for x in hub.api("GET", "/runs", token=ann)[1]["items"]}, {"red"})

    def mcp(self, hub, token, tool, args):
        c = http.client.HTTPSConnection("127.0.0.1", hub.ports[1], timeout=60, context=ssl.create_default_context(cafile=str(hub.ca)))
        c.request("POST", "/mcp", json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": args}}),
                  {"Authorization": f"Bearer {token}", "Content-Type": "application/json", "Accept": "application/json, text/event-stream"})
        r = c.getresponse()
        text = r.read().decode()
        c.close()
        if "text/event-stream" in (r.headers.get("Content-Type") or ""):
            text = [line[6:] for line in text.splitlines() if line.startswith("data: ")][-1]
        return r.status, json.loads(text)


if __name__ == "__main__":
    unittest.main()
