"""Whoever can write hub.db gives himself nothing: the hub is stopped, a row that says who may do what is changed with
SQL, the hub is started again. docs/SECURITY.md, "Sealed rows"."""
import json
import sqlite3
import unittest

from harness import World, wait_for

STEP = {"id": "s", "run": "echo spent", "estimate": {"usd": "0.10"}}


class Changed(World):
    def sql(self, hub, *statements):
        db = sqlite3.connect(hub.dir / "hub.db", timeout=20)
        try:
            for s in statements:
                self.assertNotEqual(db.execute(s).rowcount, 0, s)
            db.commit()
        finally:
            db.close()

    def one(self, hub, sql):
        db = sqlite3.connect(hub.dir / "hub.db", timeout=20)
        try:
            return db.execute(sql).fetchone()
        finally:
            db.close()

    def ok(self, r):
        self.assertEqual(r.returncode, 0, r.stderr)
        return json.loads(r.stdout) if r.stdout.startswith(("{", "[")) else r.stdout.strip()

    def refused(self, hub):
        return [r["object"] for r in hub.api("GET", "/audit?limit=200")[1]["items"] if r["action"] == "row.refused"]

    def token(self, hub, name, *args):
        """An API token that stands for itself: its id and its text."""
        doc = self.ok(hub.cli("api-token", "create", "--name", name, *args, "-o", "json"))
        return doc["id"], doc["token"]

    def state(self, hub, kind, key, value):
        status, doc = hub.api("GET", f"/api/v1/{kind}")
        self.assertEqual(status, 200, doc)
        return [x["state"] for x in doc["items"] if x[key] == value]

    # ---- tokens and users ----

    def test_a_token_that_was_revived_raised_or_invented_is_nobodys(self):
        hub = self.hub()
        changes = {
            "revoked": "revoked_us = 0", "expired": "expires_us = 0", "raised": "role = 'admin'",
            "freed": "scopes = NULL", "moved": "project = '*'", "owned": "user_id = 'nobody'", "same": "id = id"}
        made = {}
        for name in changes:
            more = {"freed": ["--scope", "runs.read"], "expired": ["--ttl", "1s"], "moved": ["--project", "default"]}
            made[name] = self.token(hub, name, "--role", "client", *more.get(name, []))
        self.ok(hub.cli("api-token", "revoke", made["revoked"][0]))
        wait_for("a token to expire", lambda: self.state(hub, "api-tokens", "id", made["expired"][0]) == ["expired"])
        hub.proc.stop()
        self.sql(hub, *(f"UPDATE api_tokens SET {what} WHERE id = '{made[name][0]}'" for name, what in changes.items()),
                 # A token of mallory's own, with the seal of another's.
                 "INSERT INTO api_tokens(id, sha256, name, role, created_us, project, seal) SELECT 'evil', "
                 "'ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb', 'evil', 'admin', 1, '*', seal "
                 "FROM api_tokens WHERE name = 'same'")
        hub.start()
        for name, (id, text) in made.items():
            status, doc = hub.api("GET", "/whoami", token=text)
            if name == "same":
                self.assertEqual(status, 200, doc)
                continue
            self.assertEqual(status, 401, (name, doc))
            self.assertIn("unknown, expired or revoked", doc["detail"])
            self.assertIn(f"api_tokens/{id}", self.refused(hub))
            self.assertEqual(self.state(hub, "api-tokens", "id", id), ["refused"])
        self.assertIn("api_tokens/evil", self.refused(hub))
        self.assertIn("a row of the database was changed by somebody else: it grants nothing", hub.proc.text())
        # What people may do about it: revoke it for good.
        self.ok(hub.cli("api-token", "revoke", made["raised"][0]))
        self.assertEqual(self.state(hub, "api-tokens", "id", made["raised"][0]), ["revoked"])

    def test_a_token_that_is_raised_while_the_hub_serves_is_nobodys(self):
        hub = self.hub()
        id, text = self.token(hub, "same", "--role", "client")
        self.sql(hub, f"UPDATE api_tokens SET role = 'admin' WHERE id = '{id}'")
        # It may be remembered for a second.
        wait_for("the change to be seen", lambda: hub.api("GET", "/whoami", token=text)[0] == 401)
        wait_for("it to be said", lambda: f"api_tokens/{id}" in self.refused(hub))

    def test_a_user_who_was_given_a_role_has_none(self):
        hub = self.hub()
        tokens = {}
        for name in ("ann", "bob", "eve"):
            self.ok(hub.cli("user", "create", name))
            self.ok(hub.cli("user", "grant", name, "client", "--project", "default"))
            tokens[name] = self.token(hub, f"of-{name}", "--user", name, "--role", "admin")[1]
        self.ok(hub.cli("user", "disable", "bob"))
        hub.proc.stop()
        self.sql(hub, "UPDATE users SET roles = '{\"*\":\"admin\"}' WHERE name = 'ann'",
                 "UPDATE users SET disabled_us = 0 WHERE name = 'bob'")
        hub.start()
        for name in ("ann", "bob"):
            self.assertEqual(hub.api("GET", "/whoami", token=tokens[name])[0], 401, name)
            self.assertEqual(self.state(hub, "users", "name", name), ["refused"])
        self.assertEqual(hub.api("GET", "/whoami", token=tokens["eve"])[0], 200)
        self.assertEqual(len([o for o in set(self.refused(hub)) if o.startswith("users/")]), 2)
        # Somebody says anew what ann is, and she is no more than that.
        self.ok(hub.cli("user", "enable", "ann"))
        self.ok(hub.cli("user", "grant", "ann", "operator", "--project", "default"))
        status, who = hub.api("GET", "/whoami", token=tokens["ann"])
        self.assertEqual((status, who["projects"]), (200, {"default": "operator"}), who)

    # ---- machines ----

    def test_a_machine_that_was_taken_back_stays_away(self):
        hub = self.hub()
        a1 = self.agent(hub, "a1")
        self.agent(hub, "a2")
        spent = hub.join_token(uses=1)
        self.ok(hub.cli("agent", "revoke", "a1"))
        wait_for("a1 to be cut off", lambda: hub.agents()["a1"]["state"] == "revoked")
        hub.proc.stop()
        self.sql(hub, "UPDATE agents SET state = 'active', revoked_us = 0 WHERE name = 'a1'",
                 "UPDATE join_tokens SET uses_max = 1000 WHERE uses_max = 1 AND uses = 0")
        hub.start()
        wait_for("a2 to come back", lambda: hub.agents()["a2"]["state"] == "online")
        self.assertEqual(hub.agents()["a1"]["state"], "revoked")
        with self.assertRaises(AssertionError):
            self.agent(hub, "a3", token=spent)
        self.assertEqual(len([o for o in set(self.refused(hub)) if o.startswith(("agents/", "join_tokens/"))]), 2)
        a1.kill9()

    # ---- money ----

    def spend(self, hub):
        s = hub.wait_run(hub.submit({"name": "w", "steps": [STEP]}))["steps"][0]
        return s["state"], (s["error"] or {}).get("code"), (s["error"] or {}).get("message", "")

    def test_a_cap_that_was_lifted_lets_nothing_be_reserved(self):
        hub = self.hub()
        self.agent(hub, "a1")
        self.ok(hub.cli("budget", "set", "day", "--usd", "0.15"))
        self.assertEqual(self.spend(hub)[0], "succeeded")
        for change in ("micros = 900000000", "deleted = 1", "micros = -1"):
            hub.proc.stop()
            was, = self.one(hub, "SELECT micros FROM budgets")
            self.sql(hub, f"UPDATE budgets SET {change}")
            hub.start()
            wait_for("the agent", lambda: hub.agents()["a1"]["state"] == "online")
            state, code, why = self.spend(hub)
            self.assertEqual((state, code), ("failed", "budget_row_refused"), why)
            self.assertIn("not as this hub wrote it", why)
            self.assertIn("photon budget set day", why)
            self.assertIn("budgets/day", self.refused(hub))
            self.assertTrue(self.ok(hub.cli("budget", "show", "day", "-o", "json"))["refused"])
            self.assertEqual(was, 150000)
            self.ok(hub.cli("budget", "set", "day", "--usd", "0.15"))
        # What was spent before counts still.
        self.assertEqual(self.spend(hub)[1], "budget_exceeded")

    def test_a_cap_that_was_taken_away_and_a_ledger_that_was_bettered(self):
        hub = self.hub()
        self.agent(hub, "a1")
        self.ok(hub.cli("budget", "set", "project:default", "--usd", "0.15"))
        self.assertEqual(self.spend(hub)[0], "succeeded")
        hub.proc.stop()
        self.sql(hub, "UPDATE ledger SET spent_micros = 0")
        hub.start()
        wait_for("the agent", lambda: hub.agents()["a1"]["state"] == "online")
        state, code, why = self.spend(hub)
        self.assertEqual((state, code), ("failed", "budget_row_refused"), why)
        self.assertIn("--restart", why)
        self.ok(hub.cli("budget", "set", "project:default", "--usd", "0.15", "--restart"))
        self.assertEqual(self.spend(hub)[0], "succeeded")
        hub.proc.stop()
        self.sql(hub, "DELETE FROM budgets")
        hub.start()
        wait_for("the agent", lambda: hub.agents()["a1"]["state"] == "online")
        state, code, why = self.spend(hub)
        self.assertEqual((state, code), ("failed", "budget_row_refused"), why)
        self.assertIn("--accept-changed-rows", why)
        self.assertIn("budgets/*", self.refused(hub))
        # What costs nothing goes on.
        self.assertEqual(hub.wait_run(hub.submit({"name": "x", "steps": [{"id": "s", "run": "echo on"}]}))["state"], "succeeded")
        self.ok(hub.cli("budget", "set", "project:default", "--usd", "5"))
        hub.proc.stop()
        hub.args.append("--accept-changed-rows")
        hub.start()
        wait_for("the agent", lambda: hub.agents()["a1"]["state"] == "online")
        # The project's old entry that was changed is taken with all else.
        self.assertEqual(self.spend(hub)[0], "succeeded")
        self.assertIn("rows.accepted", [r["action"] for r in hub.api("GET", "/audit?limit=200")[1]["items"]])

    # ---- questions ----

    def test_a_question_that_was_moved_is_answered_from_nowhere(self):
        hub = self.hub()
        self.agent(hub, "a1")
        mark = self.dir / "mark"
        for p in ("mine", "theirs"):
            self.ok(hub.cli("project", "create", p))
        mallory = self.token(hub, "mallory", "--role", "operator", "--project", "mine")[1]
        status, run = hub.api("POST", "/runs?project=theirs", {"workflow": {"name": "w", "steps": [
            {"id": "ask", "approval": {"question": "Shall we?"}},
            {"id": "do", "needs": ["ask"], "run": f"touch {mark}"}]}})
        self.assertEqual(status, 201, run)
        q = wait_for("the question", lambda: hub.api("GET", "/checkpoints")[1]["items"])[0]
        answer = {"sha256": q["sha256"]}
        self.assertEqual(hub.api("POST", f"/checkpoints/{q['id']}/approve", answer, token=mallory)[0], 404)
        self.sql(hub, f"UPDATE checkpoints SET project = 'mine' WHERE id = '{q['id']}'")
        for token in (mallory, None):
            status, doc = hub.api("POST", f"/checkpoints/{q['id']}/approve", answer, token=token)
            self.assertEqual((status, doc["code"]), (409, "row_refused"), doc)
        self.assertEqual(hub.api("GET", "/checkpoints", token=mallory)[1]["items"], [])
        wait_for("it to be said", lambda: f"checkpoints/{q['id']}" in self.refused(hub))
        hub.proc.stop()
        hub.start()
        doc = hub.wait_run(run["id"])
        self.assertEqual(doc["steps"][0]["error"]["code"], "step_signature", doc)
        self.assertFalse(mark.exists())

    # ---- keys ----

    def test_without_its_key_a_hub_does_not_start_until_it_is_told_to(self):
        hub = self.hub()
        id, text = self.token(hub, "t", "--role", "client")
        hub.proc.stop()
        key = hub.dir / "rows.key"
        self.assertEqual(key.stat().st_mode & 0o777, 0o600)
        self.assertFalse((hub.dir / "rows.key.new").exists())
        self.assertNotIn(key.read_bytes().strip(), (hub.dir / "hub.db").read_bytes())
        kept = key.read_text()
        for harm, words in ((lambda: key.unlink(), "sealed with a key that is not here"),
                            (lambda: key.write_text("short\n"), "64 hexadecimal digits"),
                            (lambda: key.chmod(0o644), "chmod 600")):
            harm()
            with self.assertRaises(AssertionError) as e:
                hub.start()
            self.assertIn(words, str(e.exception))
            key.unlink(missing_ok=True)
            key.write_text(kept)
            key.chmod(0o600)
        hub.start()
        self.assertEqual(hub.api("GET", "/whoami", token=text)[0], 200)
        hub.proc.stop()
        key.unlink()
        hub.args.append("--accept-changed-rows")
        hub.start()
        self.assertEqual(hub.api("GET", "/whoami", token=text)[0], 200)
        self.assertNotEqual(key.read_text(), kept)
        hub.proc.stop()
        hub.args.clear()
        hub.start()
        self.assertEqual(hub.api("GET", "/whoami", token=text)[0], 200)

    def test_a_hub_of_before_is_sealed_by_its_first_start_and_only_by_that(self):
        hub = self.hub()
        id, text = self.token(hub, "t", "--role", "client")
        hub.proc.stop()
        tables = [t for t, in sqlite3.connect(hub.dir / "hub.db").execute(
            "SELECT m.name FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table' AND "
            "c.name = 'seal' AND m.name NOT IN ('runs', 'steps', 'seals', 'checkpoints')")]
        self.assertEqual(len(tables), 11, tables)
        db = sqlite3.connect(hub.dir / "hub.db")
        for t in tables:
            db.execute(f"UPDATE {t} SET seal = NULL")
        db.execute("DELETE FROM seals")
        db.commit()
        db.close()
        (hub.dir / "rows.key").unlink()
        hub.start()
        self.assertEqual(hub.api("GET", "/whoami", token=text)[0], 200)
        self.assertEqual(self.refused(hub), [])
        hub.proc.stop()
        # The same again, by somebody who cannot take the key away.
        self.sql(hub, "UPDATE api_tokens SET seal = NULL, role = 'admin' WHERE name = 't'")
        hub.start()
        self.assertEqual(hub.api("GET", "/whoami", token=text)[0], 401)
        self.assertEqual(self.refused(hub)[-1], f"api_tokens/{id}")


if __name__ == "__main__":
    unittest.main()
