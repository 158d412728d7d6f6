"""The hub as an MCP server: at /mcp over HTTPS and with `photon mcp` on standard input and output,
to clients of both eras; the official conformance suite and inspector where npm has installed them."""
import json
import re
import socket
import subprocess
import time
import unittest

import harness
from ai import BIN, needs_peer
from harness import BUILD, CLI, ROOT, SLOW, clean_env
from mcp_front import Front
from mcp_peer import MODERN, Case, Stdio, call, exec_args, modern

FIXTURE_HUB = BUILD / "tests" / "photon-hub-mcp"


class OverHttps(Case):
    def test_a_tool_runs_on_an_agent_and_tells_how_it_goes(self):
        hub = self.hub()
        self.agent(hub, "a1")
        r = self.post(hub, modern(call(1, "run_tool", exec_args("sh", "-c", "echo one; echo two >&2; exit 3"), token="t")))
        self.assertEqual((r.status, r.type), (200, "text/event-stream"))
        said = [m["params"] for m in r.messages[:-1]]
        self.assertTrue(said and all(m["method"] == "notifications/progress" for m in r.messages[:-1]))
        self.assertEqual({p["progressToken"] for p in said}, {"t"})
        self.assertEqual([p["progress"] for p in said], sorted({p["progress"] for p in said}))
        text = "\n".join(p["message"] for p in said)
        for part in ("one\n", "two\n", "step call: failed"):  # a start may be overtaken by its end
            self.assertIn(part, text)
        res = r.result
        self.assertTrue(res["isError"])  # the command failed
        doc = res["structuredContent"]
        self.assertEqual((doc["state"], doc["over"], doc["agent"], doc["exit_code"], doc["output"]),
                         ("failed", True, "a1", 3, "one\ntwo\n"))
        self.assertEqual(doc["error"]["code"], "exit_nonzero")
        self.assertEqual(json.loads(res["content"][0]["text"]), doc)
        self.assertEqual((res["resultType"], res["_meta"]["io.modelcontextprotocol/serverInfo"]["name"]), ("complete", "photon"))

    def test_a_client_without_streams_gets_one_document(self):
        hub = self.hub()
        self.agent(hub, "a1")
        r = self.post(hub, modern(call(1, "run_tool", exec_args("echo", "hi"), token=1)), {"Accept": "application/json"})
        self.assertEqual((r.type, r.structured["output"]), ("application/json", "hi\n"))
        r = self.post(hub, modern(call(2, "list_agents")), {"Accept": "text/event-stream"})
        self.assertEqual((r.type, r.structured["items"][0]["name"]), ("text/event-stream", "a1"))
        self.assertEqual(self.post(hub, modern(call(2, "list_agents")), {"Accept": "text/html"}).status, 406)

    def test_a_workflow_is_started_watched_and_read(self):
        hub = self.hub()
        self.agent(hub, "a1")
        s = self.initialize(hub).session
        flow = "name: two\nsteps:\n- {id: a, run: 'echo $((1+1)); seq 1 20000'}\n- {id: b, run: 'exit 1', needs: [a]}\n"
        run = self.post(hub, call(1, "start_run", {"workflow": flow}), session=s).structured["id"]
        r = self.post(hub, call(2, "watch_run", {"run": run}, token=7), session=s)
        self.assertEqual((r.structured["state"], [x["state"] for x in r.structured["steps"]]), ("failed", ["succeeded", "failed"]))
        said = [m["params"]["message"] for m in r.messages[:-1]]
        self.assertIn("step a: succeeded", said)
        self.assertIn("step b: failed: the command ended with exit status 1", said)
        self.assertNotIn("resultType", r.result)
        text, at = "", 0
        while True:
            p = self.post(hub, call(3, "read_logs", {"run": run, "step": "a", "offset": at, "max_bytes": 9999}), session=s).structured
            self.assertLessEqual(len(p["text"]), 9999)
            text, at = text + p["text"], p["next_offset"]
            if not p["more"]:
                break
        self.assertEqual(text, "2\n" + "".join(f"{i}\n" for i in range(1, 20001)))
        tail = self.post(hub, call(4, "read_logs", {"run": run, "step": "a", "tail": True, "max_bytes": 10}), session=s).structured
        self.assertEqual((tail["text"], tail["cut"]), ("999\n20000\n"[-10:], True))
        why = self.post(hub, call(5, "read_logs", {"run": run}), session=s).result
        self.assertTrue(why["isError"])
        self.assertIn("name one with", why["content"][0]["text"])
        listed = self.post(hub, call(6, "list_runs", {"state": "failed", "limit": 1}), session=s).structured
        self.assertEqual([x["id"] for x in listed["items"]], [run])
        again = self.post(hub, call(7, "retry_run", {"run": run}), session=s).structured
        self.assertIn(again["state"], ("running", "failed"))

    def test_output_that_outruns_the_client_is_left_out_not_lost(self):
        hub = self.hub()
        self.agent(hub, "a1")
        r = self.post(hub, modern(call(1, "run_tool", exec_args("sh", "-c", "seq 1 300000", tail_bytes=100), token=1)))
        said = "".join(m["params"].get("message", "") for m in r.messages[:-1])
        self.assertLess(max(len(m["params"].get("message", "")) for m in r.messages[:-1]), 4500)
        self.assertIn("300000\n", said)
        self.assertEqual((len(r.structured["output"]), r.structured["output"][-7:], r.structured["output_cut"]), (100, "300000\n", True))
        p = self.post(hub, modern(call(2, "read_logs", {"run": r.structured["run"], "offset": 6 * 1000, "max_bytes": 12}))).structured
        self.assertEqual(p["next_offset"], 6012)

    def test_closing_the_stream_cancels_the_call_where_the_role_may(self):
        hub = self.hub()
        self.agent(hub, "a1")
        for role, state in (("operator", "cancelled"), ("client", "running")):
            r = self.post(hub, modern(call(1, "run_tool", exec_args("sleep", "600"), token=1)), token=self.make_token(hub, role), is_open=True)
            while "started on" not in r.event()["params"]["message"]:
                pass
            run = self.runs(hub)[0]["id"]
            r.conn.sock.shutdown(socket.SHUT_RDWR)
            r.conn.close()
            if state == "cancelled":
                self.assertEqual(hub.wait_run(run, states=("cancelled",))["state"], "cancelled")
            else:  # another call's whole life passes, and this one still runs
                self.post(hub, modern(call(2, "run_tool", exec_args("sleep", "2"))))
                self.assertEqual(hub.run_json(run)["state"], "running")
                self.post(hub, modern(call(3, "cancel_run", {"run": run})))

    def test_a_session_cancels_by_notification_and_not_by_hanging_up(self):
        hub = self.hub()
        self.agent(hub, "a1")
        s = self.initialize(hub).session
        r = self.post(hub, call("c-1", "run_tool", exec_args("sleep", "600"), token=1), session=s, is_open=True)
        while "started on" not in r.event()["params"]["message"]:
            pass
        run = self.runs(hub)[0]["id"]
        self.assertEqual(self.post(hub, call("c-1", "list_agents"), session=s).last["error"]["code"], -32600)  # the id is taken
        n = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "c-1"}}
        self.assertEqual(self.post(hub, n, session=self.initialize(hub).session).status, 202)  # somebody else's session
        self.assertEqual(hub.run_json(run)["state"], "running")
        self.assertEqual(self.post(hub, n, session=s).status, 202)
        self.assertIsNone(r.event())  # no answer follows
        self.assertEqual(hub.wait_run(run)["state"], "cancelled")
        r = self.post(hub, call(5, "run_tool", exec_args("sleep", "3"), token=1), session=s, is_open=True)
        while "started on" not in r.event()["params"]["message"]:
            pass
        run = self.runs(hub)[0]["id"]
        r.conn.sock.shutdown(socket.SHUT_RDWR)
        self.assertEqual(hub.wait_run(run)["state"], "succeeded")

    def test_a_cancel_that_is_there_before_its_call_cancels_it(self):
        hub = self.hub()
        self.agent(hub, "a1")
        s = self.initialize(hub).session
        self.assertEqual(self.post(hub, {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}, session=s).status, 202)
        r = self.post(hub, call(7, "run_tool", exec_args("sleep", "600")), session=s)
        self.assertEqual(r.messages, [])
        self.assertEqual(hub.wait_run(self.runs(hub)[0]["id"])["state"], "cancelled")

    def test_a_question_is_told_shown_and_answered(self):
        hub = self.hub("--approvals-self", "deny")
        self.agent(hub, "a1")
        ask = {"tool": "photon.ask", "input": {"question": "Delete it?", "arguments": {"path": "/srv"}, "action": "delete"}}
        r = self.post(hub, modern(call(1, "run_tool", ask, token=1)), token=self.make_token(hub, "client"), is_open=True)
        while "waits for a person: Delete it? (checkpoint " not in (said := r.event()["params"]["message"]):
            pass
        cp = said.rsplit(" ", 1)[1].rstrip(")")
        listed = self.post(hub, modern(call(2, "list_checkpoints"))).structured["items"]
        self.assertEqual([x["id"] for x in listed], [cp])
        shown = self.post(hub, modern(call(3, "get_checkpoint", {"checkpoint": cp}))).structured
        self.assertEqual(json.loads(shown["arguments"]), {"path": "/srv"})
        answer = {"checkpoint": cp, "decision": "approve", "sha256": shown["sha256"], "reason": "a person said so"}
        for token, args, code in ((self.make_token(hub, "operator"), answer, "permission_denied"), (None, {**answer, "sha256": "0" * 64}, "digest_mismatch"),
                                  (None, {**answer, "decision": "perhaps"}, "invalid_argument"), (None, {**answer, "checkpoint": "nope"}, "not_found")):
            refused = self.post(hub, modern(call(4, "answer_checkpoint", args)), token=token).result
            self.assertEqual(json.loads(refused["content"][0]["text"])["error"]["code"], code, refused)
        done = self.post(hub, modern(call(5, "answer_checkpoint", answer))).structured
        self.assertEqual((done["state"], done["reason"]), ("approved", "a person said so"))
        last = r.event()
        while "result" not in last:
            last = r.event()
        out = last["result"]["structuredContent"]["outputs"]
        self.assertEqual((out["approved"], out["reason"]), (True, "a person said so"))
        # Whoever began a run does not approve what it asks, on this hub.
        r = self.post(hub, modern(call(6, "run_tool", ask, token=1)), is_open=True)
        while "waits for a person" not in (said := r.event()["params"]["message"]):
            pass
        own = {"checkpoint": said.rsplit(" ", 1)[1].rstrip(")"), "decision": "approve"}
        refused = self.post(hub, modern(call(7, "answer_checkpoint", own))).result
        self.assertEqual(json.loads(refused["content"][0]["text"])["error"]["code"], "own_request")

    def test_an_approval_step_is_answered_with_its_fields_and_a_quorum(self):
        hub = self.hub()
        tess = self.make_token(hub, "technical-operator")
        status, run = hub.api("POST", "/runs", {"workflow": {"name": "w", "steps": [
            {"id": "a", "approval": {"question": "Ship?", "quorum": 2, "fields": {"n": "number"}}}]}}, token=self.make_token(hub, "client"))
        self.assertEqual(status, 201, run)
        cp = self.post(hub, modern(call(1, "list_checkpoints"))).structured["items"][0]["id"]
        shown = self.post(hub, modern(call(2, "get_checkpoint", {"checkpoint": cp}))).structured
        self.assertEqual((shown["kind"], shown["schema"]["properties"]["n"]["type"]), ("approval", "number"))
        answer = {"checkpoint": cp, "decision": "approve", "sha256": shown["sha256"], "content": {"n": 4}}
        for args, code in (({**answer, "content": {"n": "x"}}, "invalid_content"), ({k: v for k, v in answer.items() if k != "sha256"}, "digest_required")):
            refused = self.post(hub, modern(call(3, "answer_checkpoint", args))).result
            self.assertEqual(json.loads(refused["content"][0]["text"])["error"]["code"], code, refused)
        one = self.post(hub, modern(call(4, "answer_checkpoint", answer))).structured
        self.assertEqual((one["state"], one["approved"]), ("open", 1))
        twice = self.post(hub, modern(call(5, "answer_checkpoint", answer))).result
        self.assertEqual(json.loads(twice["content"][0]["text"])["error"]["code"], "already_answered")
        self.assertEqual(self.post(hub, modern(call(6, "answer_checkpoint", answer)), token=tess).structured["state"], "approved")
        self.assertEqual(hub.wait_run(run["id"])["steps"][0]["outputs"]["answers"], {"n": 4})

    def test_ending_a_session_cancels_its_calls(self):
        hub = self.hub()
        self.agent(hub, "a1")
        s = self.initialize(hub).session
        r = self.post(hub, call(1, "run_tool", exec_args("sleep", "600"), token=1), session=s, is_open=True)
        while "started on" not in r.event()["params"]["message"]:
            pass
        run = self.runs(hub)[0]["id"]
        self.assertEqual(self.ask(hub, "DELETE", s)[0], 204)
        self.assertEqual(hub.wait_run(run)["state"], "cancelled")
        self.assertEqual(self.ask(hub, "DELETE", s)[0], 404)
        self.assertEqual(self.ask(hub, "DELETE")[0], 400)
        gone = self.post(hub, call(2, "list_agents"), session=s)
        self.assertEqual((gone.status, gone.last["error"]["code"]), (404, -32001))

    def test_waiting_has_an_end(self):
        hub = self.hub()
        self.agent(hub, "a1")
        t = time.monotonic()
        r = self.post(hub, modern(call(1, "run_tool", exec_args("sleep", "600", wait="1s"))))
        self.assertEqual((r.structured["state"], r.structured["over"]), ("running", False))
        self.assertLess(time.monotonic() - t, 30 * SLOW)
        run = r.structured["run"]
        self.assertEqual(hub.run_json(run)["state"], "running")
        self.assertEqual(self.post(hub, modern(call(2, "watch_run", {"run": run, "wait": "100ms"}))).structured["state"], "running")
        self.assertTrue(self.post(hub, modern(call(3, "watch_run", {"run": run, "wait": "2h"}))).result["isError"])
        self.post(hub, modern(call(4, "cancel_run", {"run": run, "reason": "enough"})))
        self.assertEqual(hub.wait_run(run)["state"], "cancelled")

    def test_each_role_sees_and_may_what_its_permissions_say(self):
        hub = self.hub()
        self.agent(hub, "a1")
        run = self.post(hub, modern(call(1, "run_tool", exec_args("true")))).structured["run"]
        client = self.make_token(hub, "client")
        names = {t["name"] for t in self.post(hub, modern({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}), token=client).result["tools"]}
        self.assertTrue({"list_agents", "run_tool", "read_logs"} <= names)
        self.assertFalse({"cancel_run", "retry_run", "resolve_step"} & names)
        r = self.post(hub, modern(call(2, "cancel_run", {"run": run})), token=client)
        self.assertTrue(r.result["isError"])
        self.assertEqual(json.loads(r.result["content"][0]["text"])["error"],
                         {"code": "permission_denied", "message": "client (role client) lacks the permission runs.control"})
        r = self.post(hub, modern(call(3, "list_agents")), token="pat_nonsense")
        self.assertEqual((r.status, "WWW-Authenticate" in r.r.headers), (401, True))

    def test_bad_input_is_refused_in_words(self):
        hub = self.hub()
        good = modern(call(1, "list_agents"))
        for body, headers, status, code in (
                ("{", {}, 400, -32700), ("[]", {}, 400, -32600), ('[{"jsonrpc":"2.0","id":1,"method":"ping"}]', {}, 400, -32600), ("7", {}, 400, -32600),
                ('{"jsonrpc":"2.0","id":1}', {}, 400, -32600), ('{"jsonrpc":"1.0","id":1,"method":"ping"}', {}, 400, -32600),
                ('{"jsonrpc":"2.0","id":1.5,"method":"ping"}', {}, 400, -32600), ('{"jsonrpc":"2.0","id":null,"method":"ping"}', {}, 400, -32600),
                ('{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}', {}, 400, -32600),
                ('{"jsonrpc":"2.0","id":1,"method":"nope"}', {}, 200, -32601),
                ('{"jsonrpc":"2.0","id":1,"method":"ping"}', {"MCP-Protocol-Version": "1999-01-01"}, 400, -32022),
                ('{"jsonrpc":"2.0","id":1,"method":"ping"}', {"MCP-Protocol-Version": MODERN}, 400, -32602),
                ('{"jsonrpc":"2.0","id":1,"method":"ping"}', {"Mcp-Session-Id": "nobody's"}, 404, -32001),
                (good, {"Mcp-Name": "run_tool"}, 400, -32020), (good, {"Mcp-Name": None}, 400, -32020),
                (good, {"Mcp-Method": "tools/list"}, 400, -32020), (good, {"MCP-Protocol-Version": None}, 400, -32020),
                (good, {"Mcp-Name": "=?base64?bGlzdF9hZ2VudHM=?="}, 200, None),
                ('{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":7}}', {}, 200, -32602),
                ('{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"list_agents","arguments":[]}}', {}, 200, -32602)):
            r = self.post(hub, body, headers)
            self.assertEqual((r.status, r.last.get("error", {}).get("code")), (status, code), (body, headers, r.body))
            self.assertEqual(r.type, "application/json")
        for tool, args, says in (("nope", {}, "there is no tool 'nope'"), ("run_tool", {}, "tool"), ("run_tool", {"tool": 7}, "tool"),
                                 ("get_run", {"run": ""}, "run"), ("get_run", {"run": "x", "stepz": 1}, "stepz"), ("get_run", {"run": "x"}, "there is no run 'x'"),
                                 ("start_run", {"workflow": {"name": "x", "stepz": []}}, "stepz"), ("start_run", {"workflow": 7}, "workflow"),
                                 ("list_agents", {"limit": 0}, "limit"), ("run_tool", {"tool": "t", "agent": "a", "labels": {}}, "not both")):
            r = self.post(hub, modern(call(1, tool, args)))
            self.assertTrue(r.result["isError"], (tool, args))
            self.assertIn(says, json.loads(r.result["content"][0]["text"])["error"]["message"], (tool, args))
        self.assertEqual(self.runs(hub), [])
        self.assertEqual(self.post(hub, "{}", {"Content-Type": "text/plain"}).status, 415)
        self.assertEqual(self.post(hub, b"x" * (17 << 20)).status, 413)
        for origin, status in (("https://evil.example", 403), ("null", 403), ("http://localhost.evil.example", 403), ("http://localhost:3000", 200),
                               ("http://127.0.0.1", 200), ("http://[::1]:8", 200), ("https://localhost", 200)):
            self.assertEqual(self.post(hub, good, {"Origin": origin}).status, status, origin)
        for method in ("GET", "PUT"):
            self.assertEqual(self.ask(hub, method), (405, "POST, DELETE"))

    def test_revisions_are_negotiated(self):
        hub = self.hub()
        for asked, got in (("2025-11-25", "2025-11-25"), ("2025-06-18", "2025-06-18"), ("2025-03-26", "2025-03-26"), ("2024-11-05", "2024-11-05"),
                           ("2030-01-01", "2025-11-25")):
            self.assertEqual(self.initialize(hub, asked).result["protocolVersion"], got)
        r = self.post(hub, modern({"jsonrpc": "2.0", "id": 1, "method": "server/discover"}))
        self.assertEqual(r.result["supportedVersions"], [MODERN])
        self.assertEqual(r.result["capabilities"], {"tools": {}, "resources": {"subscribe": True}})
        self.assertEqual(self.post(hub, modern({"jsonrpc": "2.0", "id": 1, "method": "initialize"})).status, 404)
        self.assertEqual(self.post(hub, {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).status, 200)  # Gemini CLI: no version, no session

    def test_a_stopping_hub_says_how_things_stand_and_cancels_nothing(self):
        hub = self.hub()
        self.agent(hub, "a1")
        r = self.post(hub, modern(call(1, "run_tool", exec_args("sleep", "4"), token=1)), is_open=True)
        while "started on" not in r.event()["params"]["message"]:
            pass
        hub.proc.stop()
        doc = r.event()["result"]["structuredContent"]
        self.assertEqual((doc["state"], doc["over"]), ("running", False))
        self.assertIsNone(r.event())
        hub.restart()
        again = self.post(hub, modern(call(2, "watch_run", {"run": doc["run"]})))
        self.assertEqual(again.structured["state"], "succeeded")


class OnStdio(Case):
    hello = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": "2025-06-18", "capabilities": {},
                                                                           "clientInfo": {"name": "t", "version": "1"}}}
    ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}

    def test_requests_overlap_and_cancel(self):
        hub = self.hub()
        self.agent(hub, "a1")
        s = Stdio(self, hub)
        s.send(self.hello, self.ready)
        self.assertEqual(s.get()["result"]["protocolVersion"], "2025-06-18")
        s.send(call(1, "run_tool", exec_args("sleep", "600"), token="slow"))
        while "started on" not in s.get()["params"]["message"]:
            pass
        s.send(call("two", "run_tool", exec_args("echo", "fast")), call(3, "list_agents"))
        got = {}
        while len(got) < 2:
            m = s.get()
            if "id" in m:
                got[m["id"]] = m
        self.assertEqual(got["two"]["result"]["structuredContent"]["output"], "fast\n")
        self.assertEqual(got[3]["result"]["structuredContent"]["items"][0]["name"], "a1")
        slow = self.runs(hub)[1]["id"]
        s.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}})
        self.assertEqual(hub.wait_run(slow)["state"], "cancelled")
        self.assertEqual(s.end(), (0, ""))  # and nothing was said of it

    def test_the_modern_era_cancels_too(self):
        hub = self.hub()
        self.agent(hub, "a1")
        s = Stdio(self, hub)
        s.send(modern({"jsonrpc": "2.0", "id": 1, "method": "server/discover"}))
        self.assertEqual(s.get()["result"]["supportedVersions"], [MODERN])
        s.send(modern(call(2, "run_tool", exec_args("sleep", "600"), token="t")))
        while "started on" not in s.get()["params"]["message"]:
            pass
        s.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 2}})
        self.assertEqual(hub.wait_run(self.runs(hub)[0]["id"])["state"], "cancelled")
        s.send(modern(call(3, "run_tool", exec_args("echo", "é\n\tü"))))
        self.assertEqual(s.get()["result"]["structuredContent"]["output"], "é\n\tü\n")
        self.assertEqual(s.end(), (0, ""))

    def test_the_end_of_input_ends_it_and_what_it_began(self):
        hub = self.hub()
        self.agent(hub, "a1")
        for wrap in (lambda m: m, modern):
            s = Stdio(self, hub)
            s.send(self.hello)
            s.get()
            s.send(wrap(call(1, "run_tool", exec_args("sleep", "600"), token=1)))
            while "started on" not in s.get()["params"]["message"]:
                pass
            run = self.runs(hub)[0]["id"]
            self.assertEqual(s.end()[0], 0)
            self.assertEqual(hub.wait_run(run)["state"], "cancelled")

    def test_answers_that_are_due_still_come(self):
        hub = self.hub()
        r = hub.cli("mcp", stdin="\n".join(map(json.dumps, (self.hello, self.ready, {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}))))
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertEqual({m["id"] for m in map(json.loads, r.stdout.splitlines())}, {0, 1})

    def test_a_hub_that_was_restarted_is_spoken_to_again(self):
        hub = self.hub()
        s = Stdio(self, hub)
        s.send(self.hello)
        s.get()
        hub.kill9()
        s.send(call(1, "list_agents"))
        self.assertIn("cannot be reached", s.get()["error"]["message"])
        hub.restart()
        s.send(call(2, "list_agents"), call(3, "list_runs"))
        got = {m["id"]: m for m in (s.get(), s.get())}
        self.assertEqual({i: "result" in m for i, m in got.items()}, {2: True, 3: True}, got)
        self.assertEqual(s.end(), (0, ""))

    def test_only_messages_on_standard_output(self):
        hub = self.hub()
        s = Stdio(self, hub, PHOTON_TOKEN="pat_nonsense")
        s.send("{", "[]", '"x"', "", self.hello, '{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"x\\r\\nEvil: 1","_meta":'
               '{"io.modelcontextprotocol/protocolVersion":"' + MODERN + '"}}}', "x" * (17 << 20), '{"jsonrpc":"2.0","method":"notifications/initialized"}')
        self.assertEqual([s.get()["error"]["code"] for _ in range(3)], [-32700, -32600, -32600])
        got = sorted((s.get() for _ in range(3)), key=lambda m: str(m["id"]))
        self.assertEqual([m["id"] for m in got], [0, 5, None])
        self.assertIn("photon login", got[0]["error"]["message"])
        self.assertEqual(got[0]["error"]["data"]["code"], "unauthenticated")
        self.assertEqual(got[2]["error"]["code"], -32700)
        self.assertEqual(s.end(), (0, ""))
        self.assertIn("the hub did not take a message", (self.dir / "mcp.log").read_text())


class Official(Case):
    """The suite and the inspector of the protocol's authors."""

    def conformance(self, revision, required):
        node, suite = BIN / "node", (BIN / "conformance").resolve()
        self.assertTrue(FIXTURE_HUB.exists(), f"make {FIXTURE_HUB.relative_to(ROOT)} first, or make conformance")
        self.addCleanup(setattr, harness, "HUB", harness.HUB)
        harness.HUB = FIXTURE_HUB
        front = Front(self.hub())
        self.addCleanup(front.close)
        r = subprocess.run([node, suite, "server", "--url", front.url, "--requirements", revision], cwd=self.dir,
                           env=clean_env(self.dir), capture_output=True, text=True, timeout=300 * SLOW)
        said = r.stdout[r.stdout.find("=== SUMMARY"):]
        self.assertEqual(r.returncode, 0, said + r.stderr)
        passed = dict(re.findall(r"^. ([a-z0-9-]+): (\d+) passed, 0 failed", said, re.M))
        names = re.search(r"^server:\n((?:  - \S+\n)+)", (suite.parents[1] / "requirements" / f"{revision}.yaml").read_text(), re.M)
        wanted = re.findall(r"- (\S+)", names.group(1))
        self.assertEqual(len(wanted), required)
        self.assertEqual([n for n in wanted if int(passed.get(n, 0)) == 0], [])
        # No check of a required scenario was a warning either.
        for n in wanted:
            for checks in self.dir.glob(f"results/server-{n}-*/checks.json"):
                self.assertEqual([c["id"] for c in json.loads(checks.read_text()) if c["status"] in ("FAILURE", "WARNING")], [], n)

    @needs_peer("node", "conformance")
    def test_conformance_2025_11_25(self):
        self.conformance("2025-11-25", 30)

    @needs_peer("node", "conformance")
    def test_conformance_2026_07_28(self):
        self.conformance(MODERN, 37)

    def test_the_product_has_no_fixtures(self):
        for name in (b"test_simple_text", b"test://static-text"):
            self.assertNotIn(name, harness.HUB.read_bytes())
            self.assertIn(name, FIXTURE_HUB.read_bytes())
        hub = self.hub()
        names = [t["name"] for t in self.post(hub, modern({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})).result["tools"]]
        self.assertEqual([n for n in names if n.startswith("test")], [])
        self.assertEqual(self.post(hub, modern({"jsonrpc": "2.0", "id": 1, "method": "prompts/list"})).status, 404)

    def inspect(self, hub, *args):
        r = subprocess.run([BIN / "node", (BIN / "mcp-inspector").resolve(), "--cli", *map(str, args)], cwd=self.dir, env=clean_env(self.dir, NODE_EXTRA_CA_CERTS=hub.ca), capture_output=True, text=True,
                           timeout=120 * SLOW, stdin=subprocess.DEVNULL)
        self.assertEqual(r.returncode, 0, r.stdout + r.stderr)
        return json.loads(r.stdout)

    @needs_peer("node", "mcp-inspector")
    def test_the_inspector_calls_tools_over_both_roads(self):
        hub = self.hub()
        self.agent(hub, "a1")
        over_https = [f"{hub.url}/mcp", "--transport", "http", "--header", f"Authorization: Bearer {hub.token}"]
        on_stdio = ["-e", f"PHOTON_HUB={hub.url}", "-e", f"PHOTON_TOKEN={hub.token}", "-e", f"PHOTON_CA={hub.ca}", CLI, "mcp"]
        for road in (over_https, on_stdio):
            tools = self.inspect(hub, *road, "--method", "tools/list")["tools"]
            self.assertIn("run_tool", [t["name"] for t in tools])
            r = self.inspect(hub, *road, "--method", "tools/call", "--tool-name", "run_tool", "--tool-arg", "tool=process.exec",
                             "--tool-arg", 'input={"argv":["echo","inspected"]}')
            self.assertEqual(r["structuredContent"]["output"], "inspected\n")


if __name__ == "__main__":
    unittest.main()
