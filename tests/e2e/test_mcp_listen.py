"""Runs and questions as resources of the MCP server: read by URI, and watched with subscriptions/listen."""
import json
import unittest

from mcp_peer import MODERN, Case, Stdio, call, exec_args, modern

META = "io.modelcontextprotocol/subscriptionId"
RUNS, QUESTIONS = "photon://runs", "photon://checkpoints"
ASK = {"tool": "photon.ask", "input": {"question": "Go on?", "arguments": {"a": 1}, "action": "execute"}}


def listen(id, *uris, **more):
    return modern({"jsonrpc": "2.0", "id": id, "method": "subscriptions/listen", "params": {"notifications": {"resourceSubscriptions": list(uris), **more}}})


def read(id, uri):
    return modern({"jsonrpc": "2.0", "id": id, "method": "resources/read", "params": {"uri": uri}})


class Listening(Case):
    def open(self, hub, *uris, id="s", token=None, **more):
        """An acknowledged stream, and what it will tell of."""
        r = self.post(hub, listen(id, *uris, **more), token=token, is_open=True)
        self.assertEqual((r.status, r.type), (200, "text/event-stream"), r.r.read(500) if r.status != 200 else "")
        ack = r.event()
        self.assertEqual(ack["method"], "notifications/subscriptions/acknowledged")
        self.assertEqual(ack["params"]["_meta"], {META: id})
        return r, ack["params"]["notifications"]

    def told(self, r, id="s"):
        """The URI of the next change; None at the end of the stream."""
        m = r.event()
        if m is None:
            return None
        self.assertEqual((m["method"], m["params"]["_meta"]), ("notifications/resources/updated", {META: id}))
        return m["params"]["uri"]

    def until(self, r, uri):
        seen = []
        while not seen or seen[-1] != uri:
            seen.append(self.told(r))
            self.assertIsNotNone(seen[-1], seen)
        return seen

    def document(self, hub, uri, token=None):
        r = self.post(hub, read(1, uri), {"Mcp-Name": uri}, token=token)
        self.assertEqual(r.status, 200, r.body)
        self.assertEqual((r.result["contents"][0]["uri"], r.result["contents"][0]["mimeType"], r.result["cacheScope"]), (uri, "application/json", "private"))
        return json.loads(r.result["contents"][0]["text"])

    def refused(self, hub, uri, token=None):
        return self.post(hub, read(1, uri), {"Mcp-Name": uri}, token=token).last["error"]

    def start(self, hub, *argv, **more):
        status, doc = hub.api("POST", "/calls", exec_args(*argv), **more)
        self.assertEqual(status, 201, doc)
        return doc["id"]

    def test_what_there_is_is_listed_and_read_in_both_eras(self):
        hub = self.hub()
        self.agent(hub, "a1")
        run = self.start(hub, "true")
        hub.wait_run(run)
        self.assertEqual(self.post(hub, modern({"jsonrpc": "2.0", "id": 1, "method": "server/discover"})).result["capabilities"], {"tools": {}, "resources": {"subscribe": True}})
        session = self.initialize(hub)
        self.assertEqual(session.result["capabilities"], {"tools": {}, "resources": {}})
        for wrap in (lambda m: m, modern):
            get = lambda method, **p: self.post(hub, wrap({"jsonrpc": "2.0", "id": 1, "method": method, "params": p}), {"Mcp-Name": p.get("uri")}, session=session.session)
            self.assertEqual([x["uri"] for x in get("resources/list").result["resources"]], [RUNS, QUESTIONS])
            self.assertEqual([x["uriTemplate"] for x in get("resources/templates/list").result["resourceTemplates"]], [RUNS + "/{run}", QUESTIONS + "/{checkpoint}"])
            doc = json.loads(get("resources/read", uri=f"{RUNS}/{run}").result["contents"][0]["text"])
            self.assertEqual((doc["id"], doc["state"], len(doc["steps"])), (run, "succeeded", 1))
            self.assertEqual([x["id"] for x in json.loads(get("resources/read", uri=RUNS).result["contents"][0]["text"])["items"]], [run])
            for uri in (RUNS + "/nope", RUNS + "/", RUNS + "x", QUESTIONS + "/nope", "photon://agents", "file:///etc/passwd", f"{RUNS}/{run}/../..", f"{RUNS}/{run}?steps=false", ""):
                error = get("resources/read", uri=uri).last["error"]
                self.assertEqual((error["code"], error["data"]["code"]), (-32602 if wrap is modern else -32002, "not_found"), uri)
        self.assertEqual(self.post(hub, {"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen"}, session=session.session).last["error"]["code"], -32601)

    def test_a_run_is_watched_until_it_is_over(self):
        hub = self.hub()
        self.agent(hub, "a1")
        run = self.start(hub, "sh", "-c", "while [ ! -e go ]; do sleep 0.05; done", "x")
        other = self.start(hub, "true")
        hub.wait_run(other)
        r, agreed = self.open(hub, f"{RUNS}/{run}", f"{RUNS}/{run}", f"{RUNS}/01ARZ3NDEKTSV4RRFFQ69G5FAV", "test://x", id=7, toolsListChanged=True, resourcesListChanged=True)
        self.assertEqual(agreed, {"resourceSubscriptions": [f"{RUNS}/{run}"]})  # what there is none of is not promised
        hub.wait_run(self.start(hub, "true"))
        self.assertEqual(hub.api("POST", f"/runs/{run}/cancel")[0], 200)
        while self.document(hub, f"{RUNS}/{run}")["state"] != "cancelled":
            self.assertEqual(self.told(r, id=7), f"{RUNS}/{run}")
        r.conn.close()

    def test_open_questions_are_watched(self):
        hub = self.hub()
        self.agent(hub, "a1")
        r, agreed = self.open(hub, QUESTIONS, RUNS)
        self.assertEqual(agreed, {"resourceSubscriptions": [QUESTIONS, RUNS]})
        status, doc = hub.api("POST", "/calls", ASK)
        self.assertEqual(status, 201, doc)
        self.until(r, QUESTIONS)
        cp = self.document(hub, QUESTIONS)["items"][0]
        one, agreed = self.open(hub, f"{QUESTIONS}/{cp['id']}", id="one")
        self.assertEqual(agreed, {"resourceSubscriptions": [f"{QUESTIONS}/{cp['id']}"]})
        self.assertEqual(hub.api("POST", f"/checkpoints/{cp['id']}/approve", {"sha256": cp["sha256"]})[0], 200)
        self.assertEqual(self.told(one, id="one"), f"{QUESTIONS}/{cp['id']}")
        self.assertEqual(self.document(hub, f"{QUESTIONS}/{cp['id']}")["state"], "approved")
        self.until(r, QUESTIONS)
        self.assertEqual(self.document(hub, QUESTIONS)["items"], [])

    def test_nothing_is_told_of_other_projects_and_a_lost_role_ends_it(self):
        hub = self.hub()
        self.agent(hub, "a1")
        ann = self.red_and_blue(hub)
        in_project = lambda name, token=None: self.post(hub, modern(call(1, "run_tool", exec_args("true", project=name))), token=token).structured["run"]
        blue = in_project("blue")
        r, agreed = self.open(hub, RUNS, f"{RUNS}/{blue}", QUESTIONS, token=ann)
        self.assertEqual(agreed, {"resourceSubscriptions": [RUNS, QUESTIONS]})
        self.assertEqual(self.refused(hub, f"{RUNS}/{blue}", ann)["data"]["code"], "not_found")
        mine, _ = self.open(hub, RUNS, id="mine")
        for _ in range(8):
            in_project("blue")
        self.assertEqual(self.told(mine, id="mine"), RUNS)
        red = in_project("red", ann)
        self.assertEqual(self.told(r), RUNS)
        self.assertEqual({x["id"] for x in self.document(hub, RUNS, ann)["items"]}, {red})
        # The token that goes on does not see what is said after the role is gone.
        self.assertEqual(hub.cli("user", "ungrant", "ann", "--project", "red").returncode, 0)
        in_project("red")
        rest = []
        while (m := r.event()) is not None:
            rest.append(m)
        # Her own run was created, started and over: three at most, and nothing of eight others and one that came too late.
        self.assertLessEqual(1 + len(rest), 3, rest)
        self.assertTrue(all("result" not in m for m in rest))
        self.assertEqual(self.post(hub, listen(2, RUNS), token=ann).status, 403)

    def test_a_role_that_may_not_read_questions_is_promised_none(self):
        hub = self.hub()
        r = hub.cli("api-token", "create", "--name", "few", "--scope", "self.read", "--scope", "runs.read")
        self.assertEqual(r.returncode, 0, r.stderr)
        few = r.stdout.strip()
        _, agreed = self.open(hub, QUESTIONS, RUNS, token=few)
        self.assertEqual(agreed, {"resourceSubscriptions": [RUNS]})
        listed = self.post(hub, modern({"jsonrpc": "2.0", "id": 1, "method": "resources/list"}), token=few).result["resources"]
        self.assertEqual([x["uri"] for x in listed], [RUNS])
        error = self.refused(hub, QUESTIONS, few)
        self.assertEqual((error["code"], error["data"]["code"]), (-32000, "permission_denied"))

    def test_a_token_that_is_revoked_ends_its_stream(self):
        hub = self.hub()
        self.agent(hub, "a1")
        token = self.make_token(hub, "operator")
        r, _ = self.open(hub, RUNS, token=token)
        ids = [x["id"] for x in json.loads(hub.cli("api-token", "list", "-o", "json").stdout) if x["name"] == "operator"]
        self.assertEqual(hub.cli("api-token", "revoke", ids[0]).returncode, 0)
        self.start(hub, "true")  # something to tell
        self.assertIsNone(r.event())

    def test_what_changes_many_times_at_once_is_told_once(self):
        hub = self.hub()
        self.agent(hub, "a1")
        flow = "name: many\nsteps:\n" + "".join(f"- {{id: s{i}, run: 'true', agent: nowhere}}\n" for i in range(200))
        run = hub.submit(flow)
        r, _ = self.open(hub, f"{RUNS}/{run}", RUNS)
        self.assertEqual(hub.api("POST", f"/runs/{run}/cancel")[0], 200)
        self.assertEqual(hub.wait_run(run)["state"], "cancelled")
        last = self.start(hub, "true")
        hub.wait_run(last)
        seen = []
        while f"{RUNS}/{run}" not in seen or self.document(hub, RUNS)["items"][0]["state"] != "succeeded":
            seen.append(self.told(r))
        self.assertLess(seen.count(f"{RUNS}/{run}"), 20)  # each of the 200 steps was an event
        r.conn.sock.shutdown(2)

    def test_a_hub_that_stops_ends_it_in_good_order(self):
        hub = self.hub()
        r, _ = self.open(hub, RUNS, id=3)
        self.assertEqual(hub.proc.stop(), 0)
        last = r.event()
        self.assertEqual((last["id"], last["result"]["resultType"], last["result"]["_meta"][META]), (3, "complete", 3))
        self.assertIsNone(r.event())

    def test_what_is_wrong_with_a_filter_is_said(self):
        hub = self.hub()
        for notifications, code in ((None, -32602), ([], -32602), ({"resourceSubscriptions": RUNS}, -32602), ({"resourceSubscriptions": [1]}, -32602),
                                    ({"resourceSubscriptions": [RUNS] * 65}, -32602)):
            params = {} if notifications is None else {"notifications": notifications}
            r = self.post(hub, modern({"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": params}))
            self.assertEqual(r.last["error"]["code"], code, notifications)
        r = self.post(hub, listen(1, RUNS), {"Accept": "application/json"})
        self.assertEqual((r.status, r.last["error"]["code"]), (406, -32600))
        _, agreed = self.open(hub, *[f"{RUNS}/{'x' * 200}", "y" * 5000])
        self.assertEqual(agreed, {})

    def test_the_same_on_standard_input_and_output(self):
        hub = self.hub()
        self.agent(hub, "a1")
        s = Stdio(self, hub)
        s.send(listen("l", RUNS))
        self.assertEqual(s.get()["params"]["notifications"], {"resourceSubscriptions": [RUNS]})
        s.send(modern(call(1, "run_tool", exec_args("true"))))
        got = [s.get() for _ in range(2)]  # of the run's beginning or end, and of the call: in any order
        while not any("result" in m for m in got):
            got.append(s.get())
        self.assertTrue(any(m.get("method") == "notifications/resources/updated" and m["params"]["_meta"] == {META: "l"} for m in got), got)
        s.send(read(2, RUNS))
        while "result" not in (m := s.get()) or m["id"] != 2:
            pass
        self.assertEqual(len(json.loads(m["result"]["contents"][0]["text"])["items"]), 1)
        s.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "l"}}, listen("again", RUNS))
        while "params" not in (m := s.get()) or m["params"]["_meta"] != {META: "again"}:
            pass
        hub.kill9()
        while "error" not in (m := s.get()):
            pass
        self.assertEqual((m["id"], m["error"]["code"]), ("again", -32000))
        self.assertIn("open another", m["error"]["message"])
        hub.restart()
        s.send(listen("third", RUNS))
        self.assertEqual(s.get()["params"]["_meta"], {META: "third"})
        self.assertEqual(s.end(), (0, ""))


if __name__ == "__main__":
    unittest.main()
