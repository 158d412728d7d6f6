"""Budgets with real programs: the race for the last cent, hubs that are killed in it, calls that use too much."""
import json
import sqlite3
import threading
import unittest
from pathlib import Path

from ai import Models, ai_env, ai_policy, models
from harness import SLOW, World, wait_for

CAP = 1_500_000  # micro-dollars


def put(path, text, mode=0o644):
    path.write_text(text)
    path.chmod(mode)


def rows(hub, what="*", where="1"):
    """The ledger as the database has it, whoever is writing."""
    db = sqlite3.connect(f"file:{hub.dir}/hub.db?mode=ro", uri=True, timeout=10 * SLOW)
    try:
        return db.execute(f"SELECT {what} FROM ledger WHERE {where}").fetchall()
    finally:
        db.close()


class Sampler(threading.Thread):
    """Looks at the ledger all the time: what is reserved and spent, together."""

    def __init__(self, hub):
        super().__init__(daemon=True)
        self.hub, self.most, self.n, self.over = hub, 0, 0, threading.Event()

    def run(self):
        while not self.over.is_set():
            (total,), = rows(self.hub, "COALESCE(SUM(CASE state WHEN 0 THEN reserved_micros ELSE spent_micros END),0)")
            self.most = max(self.most, total)
            self.n += 1
            self.over.wait(0.01)


class Budgets(World):
    def config(self, endpoints):
        f = self.dir / "agent.yaml"
        f.write_text(json.dumps({"models": endpoints, "max-running": 250}))
        return f

    def world(self, price=(10, 100)):
        m = Models(self.dir / "requests")
        self.addCleanup(m.stop)
        hub = self.hub()
        self.agent(hub, "a1", "--config", self.config([{
            "name": "e", "kind": "openai", "base_url": f"http://127.0.0.1:{m.port}/v1", "retries": 0,
            "models": [{"name": "m", "capabilities": ["tools", "json"], **({"price": {"input": price[0], "output": price[1]}} if price else {})}]}]))
        return m, hub

    def set(self, hub, *args):
        r = hub.cli("budget", "set", *args, "-o", "json")
        self.assertEqual(r.returncode, 0, r.stderr)
        return json.loads(r.stdout)

    def show(self, hub, name):
        r = hub.cli("budget", "show", name, "-o", "json")
        self.assertEqual(r.returncode, 0, r.stderr)
        return json.loads(r.stdout)

    def test_two_hundred_calls_at_once_and_a_hub_that_is_killed_never_pass_the_cap(self):
        m, hub = self.world()
        self.set(hub, "day", "--usd", "1.5")
        # Each reserves about 0.10 (its answer may have 1000 tokens) and takes 0.023.
        step = {"uses": "llm.chat", "effect": "idempotent",
                "with": {"prompt": "[[slow: 40]] [[usage: 300 200 0]] [[text: one two three four five]]", "max_tokens": 1000}}
        sampler = Sampler(hub)
        run = hub.submit({"name": "race", "steps": [{"id": f"s{i}", **step} for i in range(200)]})
        sampler.start()
        self.addCleanup(sampler.over.set)
        for settled in (5, 25):
            wait_for("some to be settled", lambda: len(rows(hub, "1", "state=1")) >= settled, 60)
            hub.kill9()
            hub.restart()
        doc = hub.wait_run(run)
        sampler.over.set()
        sampler.join(10)
        self.assertGreater(sampler.n, 20)
        self.assertLessEqual(sampler.most, CAP)
        self.assertGreater(sampler.most, CAP * 9 // 10)
        done = [s for s in doc["steps"] if s["state"] == "succeeded"]
        rest = [s for s in doc["steps"] if s["state"] == "failed"]
        self.assertEqual({s["error"]["code"] for s in rest}, {"budget_exceeded"}, rest[:2])
        self.assertEqual(len(done) + len(rest), 200)
        self.assertIn("the budget day: the cap is 1.50 USD", rest[0]["error"]["message"])
        # Nothing is left reserved, and ledger, budget and steps say the same.
        self.assertEqual(rows(hub, "1", "state<>1"), [])
        (spent,), = rows(hub, "SUM(spent_micros)")
        self.assertEqual(spent, round(sum(s["usage"]["cost_usd"] for s in done) * 1e6))
        self.assertEqual(round(float(self.show(hub, "day")["spent"]["usd"]) * 1e6), spent)
        self.assertGreater(spent + 100_000, CAP - 30_000)  # as much was done as fits
        self.assertEqual(round(float(doc["spent"]["usd"]) * 1e6), spent)
        self.assertNotIn("reserved", doc)
        self.assertEqual(done[0]["spent"], {"usd": "0.023", "tokens": 500})
        self.assertIn(f"spent {doc['spent']['usd']} USD, {doc['spent']['tokens']} tokens", hub.cli("run", "show", run).stdout)
        # No model was asked without a reservation.
        self.assertLessEqual(len(m.requests("chat/completions")), len(rows(hub)))

    def test_a_call_that_uses_more_than_it_reserved_is_stopped_and_the_rest_is_said(self):
        hub = self.hub()
        agent = self.agent(hub, "a1")
        folder = agent.dir / "tools.d"
        pid = self.dir / "pid"
        put(folder / "greedy.sh", f"""#!/bin/sh
read -r line
echo $$ >{pid}
echo '{{"type":"usage","input_tokens":10,"cost_usd":0.05}}'
echo '{{"type":"usage","input_tokens":20,"cost_usd":0.15}}'
exec sleep 1000
""", 0o755)
        put(folder / "greedy.yaml", "name: demo.greedy\ndescription: Takes\ncommand: [./greedy.sh]\n")
        wait_for("the tool", lambda: "demo.greedy" in json.loads(hub.cli("agent", "show", "a1", "-o", "json").stdout)["tools"])
        # Without a cap nobody stops it; that a step costs what nobody knows is no reason to refuse it either.
        run = hub.submit({"name": "free", "steps": [{"id": "a", "uses": "demo.greedy"}]})
        wait_for("it to run", pid.exists)
        hub.cli("run", "cancel", run)
        hub.wait_run(run)
        pid.unlink()
        self.set(hub, "project:default", "--usd", "10")
        run = hub.submit({"name": "greedy", "steps": [{"id": "a", "uses": "demo.greedy", "estimate": {"usd": "0.10"}, "retry": 3}]})
        doc = hub.wait_run(run, 30)
        error = doc["steps"][0]["error"]
        self.assertEqual(error["code"], "budget_exceeded", error)
        self.assertIn("0.10 USD", error["message"])
        self.assertIn("0.15 USD", error["message"])
        self.assertFalse(Path(f"/proc/{pid.read_text().strip()}").exists())
        r = hub.cli("budget", "ledger", "--run", run, "-o", "json")
        entries = json.loads(r.stdout)
        self.assertEqual(len(entries), 1, entries)  # it was not tried again
        self.assertTrue(entries[0]["stopped"])
        self.assertEqual(entries[0]["overrun"]["usd"], "0.05", entries)
        self.assertIn("stopped", hub.cli("budget", "ledger").stdout)
        r = hub.cli("audit", "list", "--action", "budget.stop", "-o", "json")
        self.assertEqual(len(json.loads(r.stdout)), 1, r.stdout)
        self.assertEqual(hub.cli("audit", "verify").returncode, 0)

    def test_what_an_agent_that_is_killed_had_reserved_stays_spent(self):
        hub = self.hub()
        agent = self.agent(hub, "a1")
        folder, pid = agent.dir / "tools.d", self.dir / "pid"
        put(folder / "slow.sh", f"#!/bin/sh\nread -r line\necho $$ >{pid}\nexec sleep 1000\n", 0o755)
        put(folder / "slow.yaml", "name: demo.slow\ndescription: Slow\ncommand: [./slow.sh]\n")
        wait_for("the tool", lambda: "demo.slow" in json.loads(hub.cli("agent", "show", "a1", "-o", "json").stdout)["tools"])
        self.set(hub, "agent:a1", "--usd", "1")
        run = hub.submit({"name": "w", "steps": [{"id": "a", "uses": "demo.slow", "estimate": {"usd": "0.75"}}]})
        wait_for("it to run", pid.exists)
        hub.kill9()
        agent.kill9()
        hub.restart()
        self.assertEqual(self.show(hub, "agent:a1")["reserved"]["usd"], "0.75")
        agent.start()
        wait_for("the step to be unknown", lambda: hub.run_json(run)["steps"][0]["state"] == "unknown")
        self.assertEqual(self.show(hub, "agent:a1")["left"]["usd"], "0.25")  # nobody knows yet
        hub.cli("run", "resolve", run, "a", "failed")
        doc = hub.wait_run(run)
        self.assertEqual(doc["steps"][0]["spent"]["usd"], "0.75")
        self.assertEqual([e["state"] for e in json.loads(hub.cli("budget", "ledger", "-o", "json").stdout)], ["lost"])
        self.assertEqual(self.show(hub, "agent:a1")["reserved"]["usd"], "0.00")

    def test_without_a_price_the_answer_is_no_and_with_one_the_model_is_told_its_limit(self):
        m, hub = self.world(price=None)
        self.set(hub, "day", "--usd", "5")
        ask = {"name": "w", "steps": [{"id": "a", "uses": "llm.chat", "with": {"prompt": "hi"}}]}
        doc = hub.wait_run(hub.submit(ask))
        self.assertEqual(doc["steps"][0]["error"]["code"], "budget_unpriced", doc)
        self.assertEqual(m.requests("chat/completions"), [])
        r = hub.cli("exec", "--agent", "a1", "--", "echo", "fine")
        self.assertEqual(r.stdout, "fine\n", r.stderr)
        # Tokens are known without a price.
        hub.cli("budget", "delete", "day")
        self.set(hub, "day", "--tokens", "100000")
        doc = hub.wait_run(hub.submit(ask))
        self.assertEqual(doc["state"], "succeeded", doc)
        self.assertEqual(m.requests("chat/completions")[0]["body"]["max_tokens"], 4096)

    def test_an_ai_tool_keeps_to_what_was_reserved(self):
        work = self.dir / "work"
        work.mkdir()
        hub = self.hub()
        self.agent(hub, "a1", policy=ai_policy(ai_env(self.dir / "home", models(self), real=False), work))
        self.set(hub, "day", "--usd", "1", "--tokens", "100000")

        def step(estimate):
            ask = {"id": "a", "uses": "claude-code.prompt", "estimate": estimate, "retry": 2,
                   "with": {"prompt": "[[text: hi]] [[usage: 4000 2000 0]]", "cwd": str(work)}}
            return hub.wait_run(hub.submit({"name": "w", "steps": [ask]}))["steps"][0]

        a = step({"usd": "0.90", "tokens": 50000})
        self.assertEqual(a["state"], "succeeded", a)
        cost = float(a["spent"]["usd"])
        self.assertAlmostEqual(cost, a["usage"]["cost_usd"], delta=0.000002)
        self.assertGreater(cost, 0)
        for small in ({"usd": f"{cost / 3:.6f}", "tokens": 50000}, {"usd": "0.50", "tokens": 100}):
            b = step(small)
            self.assertEqual(b["error"]["code"], "budget_exceeded", b)
            self.assertEqual(b["attempt"], 1)
        left = self.show(hub, "day")
        self.assertEqual(left["reserved"], {"usd": "0.00", "tokens": 0})
        self.assertGreater(float(left["spent"]["usd"]), cost)

    def test_a_model_that_was_not_reached_costs_nothing_and_one_that_broke_off_does(self):
        m, hub = self.world()
        self.set(hub, "day", "--usd", "5")

        def spent(prompt):
            ask = {"id": "a", "uses": "llm.chat", "with": {"prompt": prompt, "max_tokens": 1000, "retries": 0}}
            step = hub.wait_run(hub.submit({"name": "w", "steps": [ask]}))["steps"][0]
            return step["error"]["code"], float(step["spent"]["usd"])

        self.assertEqual(spent("[[status: 429]]"), ("rate_limited", 0))
        code, usd = spent("[[text: one two three four five six seven]] [[cut: 2]]")
        self.assertGreater(usd, 0.09, code)  # nobody said what it cost: all that was reserved
        m.stop()
        self.assertEqual(spent("hi"), ("connect_failed", 0))

    def test_people_allow_more_once(self):
        _, hub = self.world()
        text = "budget: {usd: \"0.15\", over: ask}\nsteps:\n"
        for i in range(3):
            text += f"  - {{id: s{i}, uses: llm.chat, with: {{prompt: \"[[usage: 0 1000 0]]\", max_tokens: 1000}}}}\n"
        run = hub.submit(text)
        cp = wait_for("the question", lambda: json.loads(hub.cli("checkpoints", "-o", "json").stdout))[0]
        self.assertEqual(cp["kind"], "budget")
        self.assertIn("people are asked", hub.cli("explain", run).stdout)
        hub.kill9()
        hub.restart()
        r = hub.cli("checkpoint", "show", cp["id"])
        self.assertIn("the budget of the workflow", r.stdout)
        boss = hub.cli("api-token", "create", "--name", "boss2", "--role", "technical-operator").stdout.strip()
        r = hub.cli("approve", cp["id"], "--token", boss)
        self.assertEqual(r.returncode, 0, r.stderr)
        doc = hub.wait_run(run)
        self.assertEqual(doc["state"], "succeeded", doc)
        r = hub.cli("audit", "list", "--action", "budget.raise", "-o", "json")
        self.assertEqual([a["actor"] for a in json.loads(r.stdout)], ["boss2"])

    def test_wrong_ones_are_refused_and_whoever_may_not_is_told(self):
        hub = self.hub()
        for args in (("week", "--usd", "5"), ("day", "--usd", "five"), ("day", "--usd", "-1"), ("day",), ("day", "--usd", "1", "--over", "x"),
                     ("day", "--usd", "1", "--restart"), ("day", "--tokens", "1.5"), ("project:", "--usd", "1"), ("day", "--usd", "1e12")):
            r = hub.cli("budget", "set", *args)
            self.assertNotEqual(r.returncode, 0, args)
            self.assertTrue(r.stderr.startswith("photon: "), r.stderr)
        self.assertEqual(json.loads(hub.cli("budget", "list", "-o", "json").stdout), [])
        client = hub.cli("api-token", "create", "--name", "c", "--role", "client").stdout.strip()
        r = hub.cli("budget", "set", "day", "--usd", "5", "--token", client)
        self.assertEqual(r.returncode, 4)
        self.assertIn("budgets.manage", r.stderr)
        self.set(hub, "day", "--usd", "0.000001", "--over", "ask")
        self.assertIn("0.000001 USD", hub.cli("budget", "list").stdout)
        self.assertEqual(hub.cli("budget", "delete", "day").returncode, 0)
        self.assertEqual(hub.cli("budget", "delete", "day").returncode, 1)
        self.assertEqual(hub.api("GET", "/budgets/day")[0], 404)
        self.assertEqual(hub.api("GET", "/ledger?day=2026-13-01")[0], 400)
        self.assertEqual(hub.api("GET", "/ledger?state=x")[0], 400)


if __name__ == "__main__":
    unittest.main()
