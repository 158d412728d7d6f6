"""Steps that ask people: real hub, real agent, answers at the API and at the shell."""
import hashlib
import json
import subprocess
import threading
import time
import unittest

from harness import HUB, World, clean_env, wait_for

SHIP = """
name: release
inputs: {version: {default: "1.2"}}
steps:
  - id: ask
    approval:
      question: Ship ${{ inputs.version }}?
      show: {version: "${{ inputs.version }}"}
      fields:
        window: {options: [now, tonight], default: tonight}
        ticket: {type: number}
%s
  - id: ship
    needs: [ask]
    run: echo shipping ${{ steps.ask.outputs.answers.window }} for ${{ steps.ask.outputs.answers.ticket }} by ${{ steps.ask.outputs.by[0] }}
"""


class Approvals(World):
    def people(self, hub, *names, role="technical-operator"):
        return [hub.cli("api-token", "create", "--name", n, "--role", role).stdout.strip() for n in names]

    def submit(self, hub, more="", text=None, token=None):
        status, run = hub.api("POST", "/runs", {"workflow": text or SHIP % more}, token=token)
        self.assertEqual(status, 201, run)
        return run["id"]

    def open_one(self, hub, run):
        def one():
            status, doc = hub.api("GET", f"/checkpoints?run={run}")
            self.assertEqual(status, 200, doc)
            return doc["items"][0] if doc["items"] else None
        return wait_for("an open checkpoint", one)

    def post(self, hub, cid, how, body, want=200, **kw):
        status, doc = hub.api("POST", f"/checkpoints/{cid}/{how}", body, **kw)
        self.assertEqual(status, want, doc)
        return doc

    def show(self, hub, cid):
        return hub.api("GET", f"/checkpoints/{cid}")[1]

    def test_the_answer_is_the_steps_outcome_and_others_go_on_with_it(self):
        hub = self.hub()
        self.agent(hub, "a1")
        tess, = self.people(hub, "tess")
        run = self.submit(hub)
        cp = self.show(hub, self.open_one(hub, run)["id"])
        self.assertEqual((cp["kind"], cp["title"], cp["quorum"]), ("approval", "Ship 1.2?", 1))
        self.assertEqual(hashlib.sha256(cp["arguments"].encode()).hexdigest(), cp["sha256"])
        self.assertEqual(json.loads(cp["arguments"])["about"], {"version": "1.2"})
        self.assertEqual(hub.run_json(run)["state"], "waiting")
        self.assertEqual(hub.run_json(run)["steps"][0]["checkpoint"], cp["id"])
        yes = {"sha256": cp["sha256"], "content": {"ticket": 7}}
        bad = self.post(hub, cp["id"], "approve", {"content": {"ticket": 7}}, 400, token=tess)
        self.assertEqual(bad["code"], "digest_required")
        bad = self.post(hub, cp["id"], "approve", {**yes, "sha256": "0" * 64}, 409, token=tess)
        self.assertEqual(bad["code"], "digest_mismatch")
        for content in ({}, {"ticket": "7"}, {"ticket": 7, "window": "never"}, {"ticket": 7, "more": 1}):
            bad = self.post(hub, cp["id"], "approve", {**yes, "content": content}, 400, token=tess)
            self.assertEqual(bad["code"], "invalid_content", bad)
        self.assertEqual(self.post(hub, cp["id"], "approve", yes, 403)["code"], "own_request")
        self.assertEqual(self.show(hub, cp["id"])["state"], "open")
        done = self.post(hub, cp["id"], "approve", yes, token=tess)
        self.assertEqual((done["state"], done["content"]), ("approved", {"window": "tonight", "ticket": 7}))
        late = self.post(hub, cp["id"], "reject", {"sha256": cp["sha256"]}, 409)
        self.assertEqual(late["code"], "checkpoint_decided")
        self.assertIn("approved by tess", late["detail"])
        end = hub.wait_run(run)
        self.assertEqual(end["state"], "succeeded")
        self.assertEqual(end["steps"][0]["outputs"]["by"], ["tess"])
        self.assertEqual(end["steps"][1]["outputs"]["stdout"], "shipping tonight for 7 by tess\n")
        audit = hub.api("GET", "/audit?action=checkpoint.approve")[1]["items"]
        self.assertEqual([(a["actor"], a["object"]) for a in audit], [("tess", cp["id"])])

    def test_a_client_may_ask_and_not_answer(self):
        hub = self.hub()
        cleo, = self.people(hub, "cleo", role="client")
        oscar, = self.people(hub, "oscar", role="operator")
        run = self.submit(hub, token=cleo)
        cp = self.open_one(hub, run)
        for token in (cleo, oscar):
            for how in ("approve", "reject", "delegate"):
                bad = self.post(hub, cp["id"], how, {"to": "admin"} if how == "delegate" else {"sha256": cp["sha256"]}, 403, token=token)
                self.assertIn("checkpoints.decide", bad["detail"])
        self.post(hub, cp["id"], "reject", {"sha256": cp["sha256"], "reason": "no"})
        end = hub.wait_run(run)
        self.assertEqual(end["steps"][0]["error"]["code"], "approval_rejected")
        self.assertIn("rejected by admin: no", end["steps"][0]["error"]["message"])

    def test_no_road_leads_around_asker_is_not_approver(self):
        hub = self.hub()
        self.agent(hub, "a1")
        for who, role in (("boss", "admin"), ("ann", "technical-operator"), ("op", "operator"), ("bot", "technical-operator")):
            self.assertEqual(hub.api("POST", "/users", {"name": who, "kind": "service" if who == "bot" else "user"})[0], 201)
            self.assertEqual(hub.api("PUT", f"/projects/*/members/{who}", {"role": role})[0], 200)

        def token(name, role, by=None, **more):
            status, doc = hub.api("POST", "/api/v1/api-tokens", {"name": name, "role": role, **more}, token=by)
            self.assertEqual(status, 201, doc)
            return doc["token"]
        boss, ann, op = (token(f"{u}-1", "admin", user=u) for u in ("boss", "ann", "op"))
        svc = token("svc", "admin", boss)
        second = token("second", "admin", svc)           # by a token that boss made
        bot = token("bot-1", "admin", boss, user="bot")  # a program's
        cp = lambda run: self.open_one(hub, run)
        ship = "name: r\nsteps:\n  - id: ask\n    approval: {question: Ship?%s}\n"

        def no(run, *tokens):
            c = cp(run)
            for t in tokens:
                self.assertEqual(self.post(hub, c["id"], "approve", {"sha256": c["sha256"]}, 403, token=t)["code"], "own_request")
            return c
        run = self.submit(hub, text=ship % "", token=boss)
        no(run, boss, svc, second, bot)
        run = self.submit(hub, text=ship % "", token=svc)
        no(run, boss, svc, second, bot)
        run = self.submit(hub, text=ship % "", token=op)
        c = cp(run)
        self.post(hub, c["id"], "reject", {"sha256": c["sha256"]}, token=ann)
        hub.wait_run(run)
        self.assertEqual(hub.api("POST", f"/runs/{run}/retry", {}, token=svc)[0], 200)
        hub.kill9()
        hub.start()
        c = no(run, boss, svc, second, bot)
        self.assertEqual(hub.run_json(run)["askers"], ["svc", "boss"])
        self.assertEqual(self.post(hub, c["id"], "delegate", {"to": "boss"}, 403, token=ann)["code"], "own_request")
        self.post(hub, c["id"], "approve", {"sha256": c["sha256"]}, token=ann)
        # Of two who are wanted, a person and their token are one.
        run = self.submit(hub, text=ship % ", quorum: 2", token=op)
        c = cp(run)
        self.post(hub, c["id"], "approve", {"sha256": c["sha256"]}, token=svc)
        for t in (boss, second, bot):
            self.assertEqual(self.post(hub, c["id"], "approve", {"sha256": c["sha256"]}, 409, token=t)["code"], "already_answered")
        self.assertEqual(self.post(hub, c["id"], "approve", {"sha256": c["sha256"]}, token=ann)["state"], "approved")

    def test_two_people_over_kill_9_and_only_those_who_are_asked(self):
        hub = self.hub()
        self.agent(hub, "a1")
        ann, bob, cat = self.people(hub, "ann", "bob", "cat")
        run = self.submit(hub, "      quorum: 2\n      users: [ann, bob]\n")
        cp = self.open_one(hub, run)
        yes = {"sha256": cp["sha256"], "content": {"ticket": 1}}
        self.assertEqual(self.post(hub, cp["id"], "approve", yes, 403, token=cat)["code"], "not_asked")
        one = self.post(hub, cp["id"], "approve", yes, token=ann)
        self.assertEqual((one["state"], one["approved"]), ("open", 1))
        hub.kill9()
        hub.start()
        self.assertEqual(self.post(hub, cp["id"], "approve", yes, 409, token=ann)["code"], "already_answered")
        other = self.post(hub, cp["id"], "approve", {**yes, "content": {"ticket": 2}}, 409, token=bob)
        self.assertEqual(other["code"], "answers_differ")
        # bob hands his voice to cat: his own counts no more.
        self.assertEqual(self.post(hub, cp["id"], "delegate", {"to": "nobody"}, 400, token=bob)["code"], "invalid_delegate")
        self.assertEqual(self.post(hub, cp["id"], "delegate", {"to": "admin"}, 403, token=bob)["code"], "own_request")
        self.assertEqual(self.post(hub, cp["id"], "delegate", {"to": "ann"}, 409, token=bob)["code"], "already_answered")
        given = self.post(hub, cp["id"], "delegate", {"to": "cat"}, token=bob)
        self.assertEqual([(d["from"], d["to"]) for d in given["delegations"]], [("bob", "cat")])
        self.assertEqual(self.post(hub, cp["id"], "approve", yes, 403, token=bob)["code"], "not_asked")
        self.assertEqual(self.post(hub, cp["id"], "approve", yes, token=cat)["state"], "approved")
        end = hub.wait_run(run)
        self.assertEqual((end["state"], end["steps"][0]["outputs"]["by"]), ("succeeded", ["ann", "cat"]))

    def test_the_hubs_policy_asks_before_a_step_is_sent_and_over_kill_9(self):
        conf = self.dir / "hub.json"
        conf.write_text(json.dumps({"ask-first": [{"tools": ["process.*"], "agents": ["prod-*"], "question": "Touch production?"}]}))
        hub = self.hub("--config", str(conf))
        self.agent(hub, "dev-1")
        tess, = self.people(hub, "tess")
        touch = self.dir / "touched"
        text = f"name: t\nsteps:\n  - {{id: a, agent: %s, run: echo x >>{touch}, retry: {{limit: 1}}}}\n"
        self.assertEqual(hub.wait_run(self.submit(hub, text=text % "dev-1"))["state"], "succeeded")
        self.agent(hub, "prod-1")
        run = self.submit(hub, text=text % "prod-1")
        cp = self.show(hub, self.open_one(hub, run)["id"])
        self.assertEqual((cp["kind"], cp["title"]), ("policy", "Touch production?"))
        about = json.loads(cp["arguments"])["about"]
        self.assertEqual((about["tool"], about["agents"]), ("process.exec", ["prod-*"]))
        self.assertIn(str(touch), json.dumps(about["input"]))
        self.assertEqual(self.post(hub, cp["id"], "approve", {"sha256": cp["sha256"]}, 403)["code"], "own_request")
        hub.kill9()
        hub.start()
        self.assertEqual(self.show(hub, cp["id"])["state"], "open")
        self.post(hub, cp["id"], "approve", {"sha256": cp["sha256"]}, token=tess)
        hub.kill9()  # between the yes and the dispatch, or after it: the yes holds
        hub.start()
        self.assertEqual(hub.wait_run(run)["state"], "succeeded")
        self.assertEqual(len(hub.api("GET", f"/checkpoints?run={run}&state=all")[1]["items"]), 1)
        # A no fails the step; nothing was run.
        before = touch.read_text()
        run = self.submit(hub, text=text % "prod-1")
        cp = self.open_one(hub, run)
        self.post(hub, cp["id"], "reject", {"sha256": self.show(hub, cp["id"])["sha256"]}, token=tess)
        step = hub.wait_run(run)["steps"][0]
        self.assertEqual((step["state"], step["error"]["code"]), ("failed", "not_allowed_by_people"))
        self.assertEqual(touch.read_text(), before)
        # A call asks as a workflow does, and a rule that makes no sense stops the hub.
        conf.write_text(json.dumps({"ask-first": [{"tool": "x"}]}))
        hub.kill9()
        said = subprocess.run([HUB, "serve", "--data", str(self.dir / "hub"), "--config", str(conf)], env=clean_env(self.dir), capture_output=True, text=True, timeout=60)
        self.assertNotEqual(said.returncode, 0)
        self.assertIn('unknown key "tool": did you mean "tools"', said.stderr)

    def test_of_two_answers_at_once_one_stands(self):
        hub = self.hub()
        names = [f"p{i}" for i in range(8)]
        tokens = self.people(hub, *names)
        run = self.submit(hub)
        cp = self.open_one(hub, run)
        got = {}

        def answer(i):
            how = "approve" if i % 2 else "reject"
            got[i] = hub.api("POST", f"/checkpoints/{cp['id']}/{how}", {"sha256": cp["sha256"], **({"content": {"ticket": 1}} if i % 2 else {})},
                             token=tokens[i])
        threads = [threading.Thread(target=answer, args=(i,)) for i in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        won = [i for i, (status, _) in got.items() if status == 200]
        self.assertEqual(len(won), 1, got)
        for i, (status, doc) in got.items():
            if i not in won:
                self.assertEqual((status, doc["code"]), (409, "checkpoint_decided"))
                self.assertIn(f"by p{won[0]} already", doc["detail"])
        self.assertEqual(self.show(hub, cp["id"])["decided_by"], f"p{won[0]}")

    def test_silence_means_no_also_while_the_hub_is_down(self):
        hub = self.hub()
        run = self.submit(hub, "      timeout: 2s\n")
        cp = self.open_one(hub, run)
        hub.kill9()
        time.sleep(2.1)  # the deadline itself is what is tested: no event tells it
        hub.start()
        end = hub.wait_run(run)
        self.assertEqual((end["state"], end["steps"][0]["error"]["code"]), ("failed", "approval_expired"))
        self.assertEqual(end["steps"][1]["state"], "skipped")
        bad = self.post(hub, cp["id"], "approve", {"sha256": cp["sha256"], "content": {"ticket": 1}}, 409)
        self.assertEqual(bad["code"], "checkpoint_expired")

    def test_escalation_asks_others(self):
        hub = self.hub()
        self.agent(hub, "a1")
        ann, zoe = self.people(hub, "ann", "zoe")
        run = self.submit(hub, "      users: [ann]\n      timeout: 1h\n      escalate: {after: 1s, users: [zoe]}\n")
        cp = self.open_one(hub, run)
        wait_for("the escalation", lambda: self.show(hub, cp["id"])["escalated_at"])
        self.post(hub, cp["id"], "approve", {"sha256": cp["sha256"], "content": {"ticket": 1}}, token=zoe)
        self.assertEqual(hub.wait_run(run)["state"], "succeeded")

    def test_at_the_shell(self):
        hub = self.hub("--approvals-self", "allow")
        self.agent(hub, "a1")
        run = self.submit(hub)
        cp = self.open_one(hub, run)
        shown = hub.cli("checkpoint", "show", cp["id"]).stdout
        self.assertIn("--answer window=VALUE --answer ticket=VALUE", shown)
        self.assertIn("0 of 1", shown)
        r = hub.cli("approve", cp["id"], "--answer", "ticket=soon")
        self.assertEqual(r.returncode, 1)
        (self.dir / "t").write_text("now\n")
        r = hub.cli("approve", cp["id"], "--answer", "ticket=42", "--answer-file", f"window={self.dir}/t")
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertEqual(hub.wait_run(run)["steps"][1]["outputs"]["stdout"], "shipping now for 42 by admin\n")

    def test_an_answer_carries_a_secret_into_the_vault_and_nowhere_else(self):
        hub = self.hub()
        self.agent(hub, "a1")
        tess, = self.people(hub, "tess")
        canary = "Canary-9f27c1-deploy-key"
        run = self.submit(hub, text="""
name: deploy
steps:
  - id: ask
    approval: {question: The key?, fields: {key: {type: secret, secret: deploy-key}, note: string}}
  - id: use
    needs: ask
    run: printf %s "$KEY" | wc -c
    secrets: [{name: deploy-key, as: KEY}]
""")
        cp = self.open_one(hub, run)
        yes = {"sha256": cp["sha256"], "content": {"key": canary, "note": "n"}}
        short = self.post(hub, cp["id"], "approve", {**yes, "content": {"key": "abc", "note": "n"}}, 400, token=tess)
        self.assertEqual(short["code"], "secret_too_short")
        self.assertEqual(self.show(hub, cp["id"])["state"], "open")
        r = hub.cli("--token", tess, "approve", cp["id"], "--answer", f"key={canary}", "--answer", "note=n")
        self.assertEqual(r.returncode, 64, r.stderr)
        self.assertIn("--answer-file", r.stderr)
        done = self.post(hub, cp["id"], "approve", yes, token=tess, headers={"Idempotency-Key": "k1"})
        self.assertEqual(done["content"], {"key": {"secret": "deploy-key"}, "note": "n"})
        end = hub.wait_run(run)
        self.assertEqual(end["state"], "succeeded", end)
        self.assertEqual(end["steps"][0]["outputs"]["answers"]["key"], {"secret": "deploy-key"})
        self.assertEqual(end["steps"][1]["outputs"]["stdout"].strip(), str(len(canary)))
        audit = hub.api("GET", "/audit?action=secret.set")[1]["items"]
        self.assertEqual([(a["actor"], a["object"]) for a in audit], [("tess", "default/deploy-key")])
        self.assertEqual(audit[0]["detail"]["checkpoint"], cp["id"])
        hub.proc.stop()
        for p in [*hub.dir.rglob("*"), *self.dir.glob("*.log")]:
            if p.is_file():
                self.assertNotIn(canary.encode(), p.read_bytes(), p)

    def test_a_secret_is_not_taken_by_a_locked_vault(self):
        hub = self.hub()
        tess, = self.people(hub, "tess")
        run = self.submit(hub, text="steps: [{id: a, approval: {question: Key?, fields: {key: secret}}}]")
        cp = self.open_one(hub, run)
        self.assertEqual(hub.api("POST", "/vault/lock", {})[0], 200)
        yes = {"sha256": cp["sha256"], "content": {"key": "long enough"}}
        self.assertEqual(self.post(hub, cp["id"], "approve", yes, 503, token=tess)["code"], "vault_locked")
        self.assertEqual(self.show(hub, cp["id"])["state"], "open")
        self.assertEqual(hub.api("POST", "/vault/unlock", {})[0], 200)
        self.post(hub, cp["id"], "approve", yes, token=tess)
        self.assertEqual(hub.wait_run(run)["state"], "succeeded")

    def test_killed_between_question_and_answer_nothing_is_asked_twice(self):
        hub = self.hub("--approvals-self", "allow")
        self.agent(hub, "a1")
        runs = [self.submit(hub) for _ in range(5)]
        hub.kill9()
        hub.start()
        for run in runs:
            items = wait_for("the question", lambda r=run: hub.api("GET", f"/checkpoints?run={r}&state=all")[1]["items"])
            self.assertEqual([c["state"] for c in items], ["open"])
            self.post(hub, items[0]["id"], "approve", {"sha256": items[0]["sha256"], "content": {"ticket": 1}})
        hub.kill9()
        hub.start()
        for run in runs:
            self.assertEqual(hub.wait_run(run)["state"], "succeeded")
            items = hub.api("GET", f"/checkpoints?run={run}&state=all")[1]["items"]
            self.assertEqual([c["state"] for c in items], ["approved"])


if __name__ == "__main__":
    unittest.main()
