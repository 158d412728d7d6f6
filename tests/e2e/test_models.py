"""Models: endpoints on agents, streaming, the router, what local-only means; against the stand-in of tests/peers."""
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import unittest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from ai import Models
from harness import CLI, SLOW, World, clean_env, wait_for
from leaks import Canary

HERE = Path(__file__).resolve().parent


def endpoint(name, kind, port, models, **more):
    path = {"openai": "/v1", "zai": "/api/paas/v4", "gemini": "/v1beta"}.get(kind, "")
    return {"name": name, "kind": kind, "base_url": f"http://127.0.0.1:{port}{path}", "key_env": None,
            "models": models, "retries": 1, **more}


def model(name, price=None, caps=("tools", "json"), **more):
    m = {"name": name, "capabilities": list(caps), **more}
    if price:
        m["price"] = {"input": price[0], "output": price[1]}
    return m


class ModelsCase(World):
    def config(self, name, endpoints):
        f = self.dir / f"{name}.yaml"
        f.write_text(json.dumps({"models": [{k: v for k, v in e.items() if v is not None} for e in endpoints]}))
        return f

    def stand_in(self, name="models"):
        m = Models(self.dir / f"{name}.requests")
        self.addCleanup(m.stop)
        return m

    def two(self, one, other):
        hub = self.hub()
        self.agent(hub, "a1", "--config", self.config("a1", one))
        self.agent(hub, "a2", "--config", self.config("a2", other))
        return hub

    def call(self, hub, input_, *args):
        r = hub.cli("call", "llm.chat", "--input", json.dumps(input_), "-o", "json", *args)
        return r, (json.loads(r.stdout) if r.stdout.strip() else None)

    def ask(self, hub, step, **inputs):
        run = hub.submit(json.dumps({"name": "w", "steps": [{"id": "ask", "uses": "llm.chat", "with": step}]}), **inputs)
        doc = hub.wait_run(run)
        return run, doc["steps"][0]


class KeyOfAStep(ModelsCase):
    def test_a_key_from_the_vault_reaches_the_endpoint_and_nobody_else(self):
        canary = Canary()
        m = self.stand_in()
        hub = self.hub("--log-level", "debug")
        a = self.agent(hub, "a1", "--config", self.config("a1", [endpoint("e", "openai", m.port, [model("m")])]))
        self.assertEqual(hub.cli("secret", "set", "model-key", stdin=canary.core).returncode, 0)
        run, step = self.ask(hub, {"prompt": "hi", "endpoint": "e", "key": "${{ secrets.model-key }}"})
        self.assertEqual(step["state"], "succeeded", step)
        sent = m.requests("/chat/completions")
        self.assertEqual([q["headers"].get("authorization") for q in sent], [f"Bearer {canary.core}"])
        self.assertEqual(canary.found_in_files(hub.dir, a.dir, "/dev/shm")[0], [])
        for path in (f"/runs/{run}", f"/runs/{run}/events?follow=false", f"/runs/{run}/steps/ask/logs?format=json", "/audit?limit=500"):
            self.assertEqual(canary.found(hub.api("GET", path, raw=True)[1]), [], path)
        self.assertIn("secret.use", [r["action"] for r in hub.api("GET", "/audit?limit=500")[1]["items"]])
        # The next step has none, and one that is written down is refused.
        self.assertEqual(self.ask(hub, {"prompt": "hi", "endpoint": "e"})[1]["state"], "succeeded")
        self.assertNotIn("authorization", m.requests("/chat/completions")[1]["headers"])
        step = self.ask(hub, {"prompt": "hi", "endpoint": "e", "key": "sk-written-down"})[1]
        self.assertIn("only a secret of the vault", step["error"]["message"])
        status, doc = hub.api("POST", "/validate", {"workflow": json.dumps({"steps": [
            {"id": "ask", "uses": "llm.chat", "with": {"prompt": "hi", "key": "${{ secrets.model-key }}"}}]})})
        self.assertIn("name the endpoint", doc["errors"][0]["message"])
        # A model that says the key, a letter a piece.
        run, step = self.ask(hub, {"prompt": f"[[text: it is {canary.core}!]] [[chunk: 1]]", "endpoint": "e", "key": "${{ secrets.model-key }}"})
        self.assertEqual(step["outputs"]["text"], "it is ***!")
        lines = hub.cli("logs", run, "ask", "-o", "json", "--channel", "event").stdout.splitlines()
        events = [json.loads(line)["event"] for line in lines]
        self.assertEqual("".join(e["text"] for e in events if e["type"] == "text"), "it is ***!")


class Routing(ModelsCase):
    def test_need_chooses_agent_endpoint_and_model(self):
        m = self.stand_in()
        hub = self.two([endpoint("cheap", "openai", m.port, [model("small", (0.1, 0.4), context=8000)])],
                       [endpoint("big", "anthropic", m.port, [model("large", (3, 15), ("tools", "json", "images"), context=200000)]),
                        endpoint("home", "ollama", m.port, [model("llama", caps=("json",), context=4000)], local=True)])
        for need, want in (({"capability": ["tools"]}, ("a1", "cheap")),
                           ({"capability": ["images"]}, ("a2", "big")),
                           ({"privacy": "local-only"}, ("a2", "home")),
                           ({"context": 100000}, ("a2", "big"))):
            run, step = self.ask(hub, {"prompt": "hi", "need": need})
            self.assertEqual(step["state"], "succeeded", step)
            self.assertEqual((step["agent"], step["outputs"]["endpoint"]), want, need)
        # What it is not, and why.
        run, step = self.ask(hub, {"prompt": "hi", "need": {"capability": ["images"], "privacy": "local-only"}})
        self.assertEqual(step["error"]["code"], "no_model", step)
        for part in ("cheap", "is not local", "lacks images"):
            self.assertIn(part, step["error"]["message"])
        run, step = self.ask(hub, {"prompt": "hi", "max_tokens": 100000, "need": {"max_cost_usd": 0.01, "capability": ["tools"]}})
        self.assertEqual(step["error"]["code"], "no_model")
        self.assertIn("would cost about", step["error"]["message"])
        run, step = self.ask(hub, {"prompt": "hi", "model": "gpt-99"})
        self.assertEqual(step["error"]["code"], "unknown_model")

    def test_what_the_named_one_lacks_is_said_however_many_there_are(self):
        m = self.stand_in()
        hub = self.hub()
        self.agent(hub, "a1", "--config", self.config("a1", [endpoint(f"e{i}", "openai", m.port, [model("small")]) for i in range(9)]))
        run, step = self.ask(hub, {"prompt": "hi", "endpoint": "e8", "privacy": "local-only"})
        self.assertEqual(step["error"]["code"], "no_model", step)
        self.assertTrue(step["error"]["message"].endswith("a1/e8/small is not local"), step)
        run, step = self.ask(hub, {"prompt": "hi", "endpoint": "e9"})
        self.assertEqual(step["error"]["code"], "unknown_model", step)
        self.assertIn("is not the endpoint e9", step["error"]["message"])

    def test_explain_shows_candidates_scores_and_the_choice(self):
        m = self.stand_in()
        hub = self.two([endpoint("cheap", "openai", m.port, [model("small", (0.1, 0.4))])],
                       [endpoint("big", "anthropic", m.port, [model("large", (3, 15))])])
        run, step = self.ask(hub, {"prompt": "hi", "need": {"max_cost_usd": 0.02}})
        self.assertEqual(step["outputs"]["endpoint"], "cheap")
        said = json.loads(hub.cli("run", "explain", run, "ask", "-o", "json").stdout)
        route = said["steps"][0]["placement"]["route"]
        self.assertEqual((route["endpoint"], route["model"]), ("cheap", "small"))
        by = {c["endpoint"]: c for c in route["candidates"]}
        self.assertTrue(by["cheap"]["fits"] and by["cheap"]["score"] > 0)
        self.assertFalse(by["big"]["fits"])
        self.assertIn("would cost about", by["big"]["why"])
        text = hub.cli("run", "explain", run, "ask").stdout
        for part in ("cheap", "small", "score", "would cost about"):
            self.assertIn(part, text)

    def test_the_next_one_is_asked_when_one_fails(self):
        m = self.stand_in()
        hub = self.two([endpoint("first", "openai", m.port, [model("small", (0.1, 0.4))], base_url="http://127.0.0.1:1/v1")],
                       [endpoint("second", "openai", m.port, [model("small", (3, 15))])])
        run, step = self.ask(hub, {"prompt": "hi"})
        self.assertEqual(step["state"], "succeeded", step)
        self.assertEqual((step["agent"], step["outputs"]["endpoint"], step["attempt"]), ("a2", "second", 2))
        said = json.loads(hub.cli("run", "explain", run, "ask", "-o", "json").stdout)["steps"][0]["placement"]["route"]
        self.assertEqual([(t["endpoint"], t["error"]) for t in said["tried"]], [("first", "connect_failed")])
        # It is remembered, also by a hub that was started again: the next call goes to the other one at once.
        hub.proc.stop()
        hub.restart()
        wait_for("both agents", lambda: sum(a["state"] == "online" for a in hub.agents().values()) == 2)
        docs = json.loads(hub.cli("models", "-o", "json").stdout)
        seen = {d["endpoint"]: d for d in docs}
        self.assertGreater(seen["first"]["measured"]["error_rate"], 0.4)
        self.assertEqual(seen["second"]["measured"]["error_rate"], 0)
        self.assertGreaterEqual(seen["second"]["measured"]["latency_p50_ms"], 0)
        for _ in range(4):
            self.ask(hub, {"prompt": "hi"})
        run, step = self.ask(hub, {"prompt": "hi", "need": {"capability": ["json"]}})
        self.assertEqual(step["state"], "succeeded")
        # When all fail, the last reason stands.
        run, step = self.ask(hub, {"prompt": "[[status: 529]]", "retries": 0})
        self.assertEqual(step["state"], "failed")
        self.assertIn(step["error"]["code"], ("overloaded", "connect_failed"))

    def test_after_the_first_word_no_other_is_asked(self):
        m = self.stand_in()
        hub = self.two([endpoint("e", "openai", m.port, [model("m", (1, 1))])], [endpoint("f", "openai", m.port, [model("m", (1, 1))])])
        run, step = self.ask(hub, {"prompt": "[[text: one two three four five six seven]] [[cut: 2]]"})
        self.assertEqual(step["error"]["code"], "stream_ended", step)
        self.assertEqual(step["attempt"], 1)
        self.assertEqual(sum(r["method"] == "POST" for r in m.requests()), 1)

    def test_it_waits_for_an_agent_that_is_away(self):
        m = self.stand_in()
        hub = self.two([endpoint("e", "openai", m.port, [model("m")])], [])
        hub.proc.stop()
        hub.restart()
        a1 = next(p for p in self.procs if "a1" in str(p.log))
        a1.stop()
        wait_for("a1 away", lambda: hub.agents()["a1"]["state"] == "offline")
        run = hub.submit(json.dumps({"name": "w", "steps": [{"id": "ask", "uses": "llm.chat", "with": {"prompt": "hi"}}]}))
        said = wait_for("an explanation", lambda: json.loads(hub.cli("run", "explain", run, "-o", "json").stdout)["steps"][0].get("reason"))
        self.assertIn("offline", said)
        self.assertEqual(hub.run_json(run)["steps"][0]["state"], "ready")


class Streaming(ModelsCase):
    def one(self, kind="openai"):
        m = self.stand_in()
        hub = self.hub()
        self.agent(hub, "a1", "--config", self.config("a1", [endpoint("e", kind, m.port, [model("m", (2, 10))])]))
        return hub, m

    def test_every_dialect_by_hand(self):
        m = self.stand_in()
        hub = self.hub()
        kinds = ("openai", "anthropic", "gemini", "ollama", "zai")
        key = self.dir / "key"
        key.write_text("worth-nothing\n")
        key.chmod(0o600)
        self.agent(hub, "a1", "--config", self.config("a1", [endpoint(k, k, m.port, [model("m", (2, 10))], key_file=str(key)) for k in kinds]))
        for k in kinds:
            r, doc = self.call(hub, {"endpoint": k, "prompt": "[[think: hm]] [[text: Hello from there]]"})
            self.assertEqual(r.returncode, 0, r.stdout + r.stderr)
            out = doc
            self.assertEqual((out["text"], out["endpoint"]), ("Hello from there", k))
            self.assertGreater(out["cost_usd"], 0)
            self.assertIn("worth-nothing", json.dumps([q["headers"] for q in m.requests()][-1]))
        for k in kinds:
            # Z.AI and, by a tool, Anthropic are asked for JSON in words that the stand-in does not read.
            prompt = '[[text: {"n": 7}]]' if k in ("zai", "anthropic") else "x"
            r, doc = self.call(hub, {"endpoint": k, "prompt": prompt, "schema": {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}})
            self.assertEqual(r.returncode, 0, (k, r.stderr, doc))
            self.assertIsInstance(doc["json"]["n"], int)
        # Nothing of the key is kept anywhere on the hub or in what it says.
        for f in [*hub.dir.rglob("*"), *self.dir.glob("*.log*")]:
            if f.is_file():
                self.assertNotIn(b"worth-nothing", f.read_bytes(), f)

    def test_codes_of_an_endpoint_reach_people(self):
        hub, m = self.one()
        for prompt, code in (("[[status: 429]]", "rate_limited"), ("[[status: 500]]", "server_error"), ("[[status: 529]]", "overloaded"),
                             ("[[status: 400]]", "bad_request"), ("[[status: 401]]", "auth_failed"), ("[[half]]", "half_message"),
                             ("[[noend]]", "stream_ended"), ("[[junk]]", "bad_answer"), ("[[cut: 1]]", "stream_ended"),
                             ("[[error: it broke]]", "server_error")):
            r, doc = self.call(hub, {"prompt": prompt + " [[text: one two three four five]]", "retries": 0})
            self.assertEqual(r.returncode, 1, (prompt, r.stdout))
            self.assertIn(code, r.stdout + r.stderr, prompt)


class Platforms(ModelsCase):
    def setUp(self):
        super().setUp()
        self.key = self.dir / "key"
        self.key.write_text("worth-nothing\n")
        self.key.chmod(0o600)

    def test_an_operations_zai_step_runs(self):
        m = self.stand_in()
        hub = self.hub()
        self.agent(hub, "D", "--config", self.config("D", [endpoint("zai", "zai", m.port, [model("glm-4.6")], key_file=str(self.key))]))
        run = hub.submit(json.dumps({"id": "op", "name": "Deploy", "agents": ["D"], "platforms": ["zai"], "workflow": [
            {"step": 1, "agent": "D", "platform": "zai", "action": "deploy-production", "inputs": {"environment": "prod"}}]}))
        doc = hub.wait_run(run)
        self.assertEqual(doc["state"], "succeeded", doc)
        self.assertEqual(doc["steps"][0]["outputs"]["text"], "Hello from the stand-in.")
        said = m.requests("/chat/completions")[-1]["body"]["messages"][-1]["content"]
        self.assertIn("deploy-production", said)
        self.assertIn('"environment"', said)

    def test_jules_asks_people_for_its_plan_and_for_words(self):
        m = self.stand_in()
        hub = self.hub()
        self.agent(hub, "a1", "--config", self.config("a1", [{"name": "jules", "kind": "jules", "base_url": m.url + "/v1alpha", "key_file": str(self.key)}]))
        run = hub.submit(json.dumps({"name": "w", "steps": [{"id": "j", "uses": "jules.session", "with": {
            "prompt": "Paint the door [[ask: Which colour?]] [[text: Painted.]]", "source": "acme/shop", "create_pull_request": True, "poll": "20ms"}}]}))

        def open_question():
            items = [c for c in hub.api("GET", "/checkpoints")[1]["items"] if c["state"] == "open"]
            return items[0] if items else None

        plan = wait_for("the question about the plan", open_question, 60)
        self.assertIn("Look at the code", json.dumps(hub.api("GET", f"/checkpoints/{plan['id']}")[1]["arguments"]))
        r = hub.cli("approve", plan["id"])
        self.assertEqual(r.returncode, 0, r.stderr)
        words = wait_for("the question for words", lambda: (q := open_question()) and q["id"] != plan["id"] and q, 60)
        self.assertIn("Which colour?", words["title"])
        r = hub.cli("approve", words["id"], "--content", json.dumps({"message": "Green"}))
        self.assertEqual(r.returncode, 0, r.stderr)
        step = hub.wait_run(run)["steps"][0]
        self.assertEqual(step["state"], "succeeded", step)
        self.assertEqual((step["outputs"]["state"], step["outputs"]["text"]), ("COMPLETED", "Painted."))
        self.assertIn("/pull/7", step["outputs"]["pull_request"])
        self.assertIn("Green", json.dumps([q["body"] for q in m.requests(":sendMessage")]))


class Thinker(BaseHTTPRequestHandler):
    """Says three words, each after a while, and when."""
    protocol_version = "HTTP/1.1"

    def log_message(self, *a):
        pass

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for i in range(3):
            self.server.go.acquire()
            self.server.sent.append(time.monotonic())
            self.wfile.write(b'data: {"choices":[{"delta":{"content":"word%d "}}]}\n\n' % i)
        self.wfile.write(b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n')
        self.close_connection = True


class Latency(ModelsCase):
    def test_the_first_word_is_there_at_once(self):
        srv = ThreadingHTTPServer(("127.0.0.1", 0), Thinker)
        srv.daemon_threads = True
        threading.Thread(target=srv.serve_forever, daemon=True).start()
        self.addCleanup(srv.server_close)
        self.addCleanup(srv.shutdown)
        hub = self.hub()
        self.agent(hub, "a1", "--config", self.config("a1", [endpoint("e", "openai", srv.server_port, [model("m")])]))
        env = clean_env(self.dir, PHOTON_HUB=hub.url, PHOTON_TOKEN=hub.token, PHOTON_CA=hub.ca)
        first = []
        for _ in range(9):
            srv.sent, srv.go = [], threading.Semaphore(0)
            status, doc = hub.api("POST", "/calls", {"tool": "llm.chat", "input": {"prompt": "hi"}})
            self.assertIn(status, (201, 202), doc)
            p = subprocess.Popen([str(CLI), "logs", doc["id"], "-f"], stdout=subprocess.PIPE, env=env)
            wait_for("the call to run and the CLI to follow", lambda: hub.run_json(doc["id"])["steps"][0]["state"] == "running"
                     and self.connected(p.pid))
            for i in range(3):
                srv.go.release()
                seen = b""
                while b"word%d" % i not in seen:
                    b = os.read(p.stdout.fileno(), 100)
                    self.assertTrue(b, "the CLI ended early")
                    seen += b
                if i == 0:
                    first.append((time.monotonic() - srv.sent[0]) * 1000)
            p.stdout.close()
            self.assertEqual(p.wait(20 * SLOW), 0)
        first.sort()
        print(f"first word at the CLI after {first[0]:.1f} ms at best, {first[len(first) // 2]:.1f} ms in the median")
        # The best of nine: how long it takes on a machine that is not busy is for the benchmark.
        self.assertLess(first[0], 20 * SLOW, first)

    def connected(self, pid):
        """The CLI has its connection: a socket among its descriptors."""
        try:
            return any("socket:" in os.readlink(f) for f in Path(f"/proc/{pid}/fd").iterdir())
        except OSError:
            return False


class LocalOnly(unittest.TestCase):
    def test_nothing_leaves_the_machine(self):
        if os.getuid() != 0 or not shutil.which("unshare") or not shutil.which("ip"):
            self.skipTest("SKIPPED: a network namespace needs root, unshare and ip")
        r = subprocess.run(["unshare", "-n", sys.executable, "-m", "unittest", "local_only.Inside"], cwd=HERE, capture_output=True,
                           text=True, timeout=200 * SLOW, env=dict(os.environ, PYTHONPATH=str(HERE)))
        self.assertEqual(r.returncode, 0, r.stdout + r.stderr)


if __name__ == "__main__":
    unittest.main()
