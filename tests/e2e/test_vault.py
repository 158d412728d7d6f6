"""The vault with real binaries: a secret is used, and found nowhere."""
import http.server
import json
import re
import resource
import signal
import sqlite3
import threading
import unittest
from pathlib import Path

from harness import Agent, World, _Ctx, wait_for
from leaks import Canary, CommandLines, Relay


class Vault(World):
    maxDiff = None

    def secret(self, hub, name, value, *args, rc=0):
        r = hub.cli("secret", "set", name, *args, stdin=value)
        self.assertEqual(r.returncode, rc, r.stderr)
        return r

    def go(self, hub, workflow, want="succeeded"):
        run = hub.wait_run(hub.submit(workflow), states=("succeeded", "failed", "cancelled"))
        self.assertEqual(run["state"], want, run)
        return run

    def test_a_step_gets_what_it_names_and_nothing_else(self):
        hub = self.hub()
        self.agent(hub, "a1")
        self.secret(hub, "TOKEN", "value-of-the-token")
        self.secret(hub, "OTHER", "value-of-the-other")
        run = self.go(hub, """
steps:
  - id: env
    run: |
      test "$TOKEN" = value-of-the"-token" && test -z "$OTHER" && echo "len=${#TOKEN}" >> "$PHOTON_OUTPUT"
    secrets: [TOKEN]
  - id: renamed
    run: test "$DEPLOY_KEY" = value-of-the"-token" && test -z "$TOKEN"
    secrets: [{name: TOKEN, as: DEPLOY_KEY}]
  - id: file
    run: |
      case "$TOKEN" in /proc/self/fd/*) ;; *) exit 3 ;; esac
      test "$(cat "$TOKEN")" = value-of-the"-token" && test "$(cat "$TOKEN")" = value-of-the"-token" || exit 4
      ( sh -c 'test "$(cat "$TOKEN")" = value-of-the"-token"' ) || exit 5
      echo x > "$TOKEN" && exit 6
      exit 0
    secrets: [{name: TOKEN, file: true}]
  - id: expression
    run: test "$A" = "Bearer value-of-the"-token
    env: {A: "Bearer ${{ secrets.TOKEN }}"}
  - id: stdin
    run: test "$(cat)" = value-of-the"-token"
    stdin: ${{ secrets.TOKEN }}
  - id: none
    run: test -z "$TOKEN" && test -z "$OTHER"
""")
        steps = {s["id"]: s for s in run["steps"]}
        self.assertEqual(steps["env"]["outputs"]["len"], "18")
        listed = json.loads(hub.cli("secret", "list", "-o", "json").stdout)
        self.assertEqual([s["name"] for s in listed], ["OTHER", "TOKEN"])
        self.assertNotIn("value-of-the", json.dumps(listed))

    # ---- locked ----

    PASS = "correct horse battery staple"

    def to_passphrase(self, hub):
        r = hub.cli("vault", "rotate", "master", "--key", "passphrase", stdin=self.PASS + "\n")
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertFalse((hub.dir / "vault.key").exists())

    def test_a_locked_vault_says_503_and_steps_wait_for_it(self):
        hub = self.hub()
        self.agent(hub, "a1")
        self.secret(hub, "TOKEN", "value-of-the-token")
        self.to_passphrase(hub)
        hub.kill9()
        hub.restart()
        wait_for("the agent", lambda: hub.agents()["a1"]["state"] == "online")
        status, doc = hub.api("PUT", "/secrets/OTHER", {"value": "value-of-the-other"})
        self.assertEqual((status, doc["code"]), (503, "vault_locked"), doc)
        run = hub.submit("steps: [{id: uses, run: 'test \"$TOKEN\" = value-of-the-token', secrets: [TOKEN]}, {id: not, run: 'true'}]")
        wait_for("the other step", lambda: [s["state"] for s in hub.run_json(run)["steps"]] == ["waiting", "succeeded"])
        why = hub.api("GET", f"/runs/{run}/explain?step=uses")[1]["steps"][0]
        self.assertEqual(why["code"], "vault_locked")
        self.assertIn("photon vault unlock", why["reason"])
        wrong = hub.cli("vault", "unlock", stdin="wrong horse battery staple\n")
        self.assertEqual(wrong.returncode, 4, wrong)
        self.assertIn("not the vault's passphrase", wrong.stderr)
        self.assertEqual(hub.run_json(run)["steps"][0]["state"], "waiting")
        # The hub may die meanwhile: the step goes on waiting.
        hub.kill9()
        hub.restart()
        wait_for("the step", lambda: hub.run_json(run)["steps"][0]["state"] == "waiting")
        right = hub.cli("vault", "unlock", stdin=self.PASS + "\n")
        self.assertEqual(right.returncode, 0, right.stderr)
        self.assertEqual(hub.wait_run(run)["state"], "succeeded")
        acts = [(r["action"], r["object"]) for r in hub.api("GET", "/audit?limit=100")[1]["items"]]
        for a in [("vault.unlock", "passphrase"), ("vault.unlock_denied", "passphrase"), ("secret.use", "default/TOKEN"),
                  ("secret.set", "default/TOKEN"), ("vault.rotate", "master key")]:
            self.assertIn(a, acts)
        self.assertEqual(Canary.text_in_files("correct horse", self.dir), [])

    def test_wrong_passphrases_are_slowed_down(self):
        hub = self.hub()
        self.to_passphrase(hub)
        self.assertEqual(hub.api("POST", "/vault/lock", {})[1]["state"], "locked")
        for _ in range(5):
            status, doc = hub.api("POST", "/vault/unlock", {"passphrase": "wrong horse battery staple"})
            self.assertEqual((status, doc["code"]), (403, "wrong_passphrase"), doc)
        hub.kill9()  # what was answered is written down
        hub.restart()
        acts = [r["action"] for r in hub.api("GET", "/audit?limit=100")[1]["items"]]
        self.assertEqual(acts.count("vault.unlock_denied"), 5)
        for _ in range(5):  # a new process has forgotten how many there were
            status, doc = hub.api("POST", "/vault/unlock", {"passphrase": "wrong horse battery staple"})
            self.assertEqual((status, doc["code"]), (403, "wrong_passphrase"), doc)
        status, doc, headers = hub.api("POST", "/vault/unlock", {"passphrase": self.PASS}, raw=True)
        self.assertEqual((status, json.loads(doc)["code"]), (429, "unlock_limited"))
        self.assertIn("Retry-After", headers)

    def test_a_stolen_database_alone_opens_nothing(self):
        hub = self.hub()
        self.agent(hub, "a1")
        self.secret(hub, "TOKEN", "value-of-the-token")
        hub.proc.stop()
        (hub.dir / "vault.key").rename(self.dir / "elsewhere.key")
        hub.restart()
        status, doc = hub.api("GET", "/vault")
        self.assertEqual((doc["state"], doc["key"]), ("locked", "file"))
        self.assertIn(b"\nphoton_vault_open 0\n", hub.api("GET", "/metrics", raw=True)[1])
        run = hub.submit("steps: [{id: uses, run: 'test -n \"$TOKEN\"', secrets: [TOKEN]}]")
        wait_for("the step", lambda: hub.run_json(run)["steps"][0]["state"] == "waiting")
        self.assertFalse((hub.dir / "vault.key").exists())
        (self.dir / "elsewhere.key").rename(hub.dir / "vault.key")
        self.assertEqual(hub.cli("vault", "unlock").returncode, 0)
        self.assertEqual(hub.wait_run(run)["state"], "succeeded")

    # ---- renewal ----

    def test_keys_are_renewed_while_steps_run_and_hubs_die(self):
        hub = self.hub()
        self.agent(hub, "a1")
        for i in range(150):
            status, doc = hub.api("PUT", f"/secrets/S{i}", {"value": f"value-of-{i}"})
            self.assertEqual(status, 200, doc)
        old_key = (hub.dir / "vault.key").read_text()
        for level in ("data", "data", "master", "data"):
            status, doc = hub.api("POST", "/vault/rotate", {"level": level})
            self.assertEqual(status, 200, doc)
            hub.kill9()  # in the middle of sealing anew
            hub.restart()
        self.assertNotEqual((hub.dir / "vault.key").read_text(), old_key)
        vault = wait_for("all under one data key", lambda: (lambda v: v if v["data_keys"] == 1 else None)(hub.api("GET", "/vault")[1]))
        self.assertEqual((vault["state"], vault["data_key"], vault["secrets"]), ("open", 4, 150))
        wait_for("the agent", lambda: hub.agents()["a1"]["state"] == "online")
        self.go(hub, """
steps:
  - id: all
    matrix: {i: [0, 1, 73, 149]}
    run: test "$A$B" = "value-of-0value-of-149"
    secrets: [{name: S0, as: A}, {name: S149, as: B}]
""")
        self.secret(hub, "S0", "another-value-of-0")
        self.go(hub, """steps: [{id: s, run: 'test "$S0" = another-value-of-0', secrets: [S0]}]""")
        r = hub.cli("secret", "rotate", "S0", stdin="third-value-of-0")
        self.assertIn("version 3", r.stderr)
        self.assertEqual(len(json.loads(hub.cli("secret", "show", "S0", "-o", "json").stdout)["versions"]), 3)
        self.assertEqual(hub.cli("secret", "rotate", "NEW", stdin="value-of-new").returncode, 1)
        self.assertEqual(hub.cli("secret", "delete", "S0").returncode, 0)
        run = hub.wait_run(hub.submit("steps: [{id: s, run: 'true', secrets: [S0]}]"))
        self.assertEqual(run["steps"][0]["error"]["code"], "secret_unknown")

    def test_a_row_that_was_moved_is_not_opened(self):
        hub = self.hub()
        self.agent(hub, "a1")
        self.secret(hub, "MINE", "value-of-mine")
        self.secret(hub, "THEIRS", "value-of-theirs")
        db = sqlite3.connect(hub.dir / "hub.db")
        db.execute("UPDATE secret_versions SET sealed=(SELECT sealed FROM secret_versions WHERE name='THEIRS') WHERE name='MINE'")
        db.commit()
        db.close()
        run = hub.wait_run(hub.submit("steps: [{id: s, run: 'echo $MINE', secrets: [MINE]}]"))
        self.assertEqual(run["steps"][0]["error"]["code"], "secret_corrupt", run)

    # ---- who may ----

    def test_roles_and_projects_bound_secrets(self):
        hub = self.hub()
        self.agent(hub, "a1")
        tokens = {}
        for role in ("client", "operator", "technical-operator"):
            status, doc = hub.api("POST", "/api/v1/api-tokens", {"name": role, "role": role})
            self.assertEqual(status, 201, doc)
            tokens[role] = doc["token"]
        put = {"value": "value-of-the-token"}
        for role, want in (("client", 403), ("operator", 403), ("technical-operator", 200)):
            self.assertEqual(hub.api("PUT", "/secrets/TOKEN", put, token=tokens[role])[0], want, role)
        for role, want in (("client", 403), ("operator", 200)):
            self.assertEqual(hub.api("GET", "/secrets/TOKEN", token=tokens[role])[0], want, role)
        flow = {"workflow": "steps: [{id: s, run: 'test -n \"$TOKEN\"', secrets: [TOKEN]}]"}
        status, doc = hub.api("POST", "/runs", flow, token=tokens["client"])
        self.assertEqual(status, 403)
        self.assertIn("secrets.use", doc["detail"])
        call = {"tool": "process.exec", "input": {"argv": ["true"]}, "secrets": [{"name": "TOKEN"}]}
        self.assertEqual(hub.api("POST", "/calls", call, token=tokens["client"])[0], 403)
        self.assertEqual(hub.api("POST", "/calls", call, token=tokens["operator"])[0], 201)
        self.assertEqual(hub.api("POST", "/vault/lock", {}, token=tokens["technical-operator"])[0], 403)
        # Another project has none of these.
        self.assertEqual(hub.cli("project", "create", "other").returncode, 0)
        status, doc = hub.api("POST", "/runs?project=other", flow)
        self.assertEqual(status, 201, doc)
        self.assertEqual(hub.wait_run(doc["id"])["steps"][0]["error"]["code"], "secret_unknown")
        r = hub.cli("exec", "--secret", "TOKEN=MY_TOKEN", "--", "sh", "-c", "echo len=${#MY_TOKEN} $MY_TOKEN")
        self.assertEqual((r.stdout, r.returncode), ("len=18 ***\n", 0), r)

    def test_what_cannot_be_a_secret_is_refused_with_the_reason(self):
        hub = self.hub()
        for value, code, status in (("a7b/c", "secret_too_short", 400), ("x" * 65537, "secret_too_large", 413)):
            got, doc = hub.api("PUT", "/secrets/A", {"value": value})
            self.assertEqual((got, doc["code"]), (status, code))
            self.assertNotIn(value, json.dumps(doc))
        for body in ({}, {"value": "abcdefgh", "value_base64": "YWJj"}, {"value_base64": "!!"}, {"value": 7}, {"valu": "abcdefgh"}):
            self.assertEqual(hub.api("PUT", "/secrets/A", body)[0], 400, body)
        self.assertEqual(hub.api("PUT", "/secrets/A", {"value": "1234", "unmasked": True})[0], 200)
        for name in ("", "a/b", "../api-tokens/x", "a b", ".a", "\u00e4", "a%2fb", "a" * 129):
            for command in (["set"], ["rotate"], ["show"], ["delete"]):
                r = hub.cli("secret", *command, name, stdin="value-of-none")
                self.assertEqual(r.returncode, 1, (name, r))
                if command == ["set"] or "/" in name or not name:
                    self.assertIn("letters, digits", r.stderr, name)
        for text, near in (("run: 'echo ${{ secrets.A }}'", "variable"), ("run: 'echo ${{ env.A }}', env: {A: '${{ secrets.A }}'}", "holds a secret"),
                           ("uses: process.exec, with: {argv: [echo, '${{ secrets.A }}']}", "variable"),
                           ("run: x, env: {A: \"${{ format('{0}', secrets.A) }}\"}", "alone"), ("run: x, secrets: [a.b]", "as"),
                           ("run: x, secrets: [{name: A, as: PATH}]", "PATH"), ("run: x, secrets: [{name: A, as: LD_PRELOAD}]", "LD_PRELOAD"),
                           ("uses: http.request, secrets: [A], with: {url: 'http://x/'}", "headers"), ("run: x, secrets: [{nam: A}]", "name"),
                           ("run: x, if: secrets.A == 'y'", "secret")):
            status, doc = hub.api("POST", "/validate", {"workflow": "steps: [{id: s, " + text + "}]"})
            self.assertEqual((status, doc.get("valid")), (200, False), (text, doc))
            self.assertIn(near, doc["errors"][0]["message"], text)

    # ---- the canary ----

    ENCODE = """
import base64, json, os, re, sys, urllib.parse as u
v = os.environ["CANARY"]; b = v.encode(); out = sys.stdout
for shift in range(3):
    print("b64", base64.b64encode(b"x" * shift + b + b"tail").decode())
    print("b64url", base64.urlsafe_b64encode(b"x" * shift + b + b"tail").decode())
print("hex", b.hex(), b.hex().upper())
print("url", u.quote(v), u.quote_plus(v), u.quote(v, safe=""), re.sub("%..", lambda m: m.group().lower(), u.quote(v)))
print("json", json.dumps(v), json.dumps(v, ensure_ascii=False), json.dumps({"k": [v]}))
print("twice", v + v, v[:9] + v)
out.flush()
for c in b:                                  # a byte at a time
    os.write(1, bytes([c]))
os.write(1, b"\\n"); os.write(2, b[:20]); os.write(2, b[20:] + b"\\n")
print("marker-of-the-logs")
"""

    def canary_steps(self, port, script):
        return f"""
steps:
  - id: encoded
    run: |
      python3 {script}
      printf '%s\\n' "$CANARY" | base64
      printf %s "$CANARY" | od -An -tx1 -v | tr -d ' \\n'
      printf 'x%s' "$CANARY" | od -An -tx1 -v
      printf %s "$CANARY" | python3 -c 'import sys; h = sys.stdin.buffer.read().hex(); print("\\n".join(h[i:i+60] for i in range(0, len(h), 60)))'
    secrets: [CANARY]
  - id: output
    run: |
      echo "x=$CANARY" >> "$PHOTON_OUTPUT"
      printf 'y<<E\\n%s\\nE\\n' "$CANARY" >> "$PHOTON_OUTPUT"
      printf %s "$CANARY" | base64 -w0 | sed 's/^/z=/' >> "$PHOTON_OUTPUT"
      cp "$PHOTON_OUTPUT" copy; printf %s "$CANARY" > left-behind
    cwd: ${{{{ inputs.folder }}}}
    secrets: [CANARY]
  - {{id: file, run: 'cat "$CANARY"; cat "$CANARY" >&2', secrets: [{{name: CANARY, file: true}}]}}
  - id: cut
    run: |
      python3 -c 'import os,sys; v=os.environ["CANARY"]; sys.stdout.write(v + "z" * (65536 - len(v.encode()) // 2)); sys.stderr.write(v + "z" * (4096 - len(v.encode()) // 2))'
    secrets: [CANARY]
  - {{id: fails, run: 'echo "$CANARY" >&2; exit 3', secrets: [CANARY], continue-on-error: true}}
  - {{id: bad-output, run: 'echo "$CANARY" >> "$PHOTON_OUTPUT"', secrets: [CANARY], continue-on-error: true}}
  - {{id: stdin, run: cat, stdin: "${{{{ secrets.CANARY }}}}"}}
  - id: http
    uses: http.request
    with: {{method: POST, url: "http://127.0.0.1:{port}/echo", body: "b=${{{{ secrets.CANARY }}}}", headers: {{X-Key: "${{{{ secrets.PLAIN }}}}"}}}}
  - id: refused-connection
    uses: http.request
    with: {{url: "http://127.0.0.1:1/${{{{ secrets.PLAIN }}}}?${{{{ secrets.PLAIN }}}}"}}
    continue-on-error: true
  - id: no-url
    uses: http.request
    with: {{url: "${{{{ secrets.CANARY }}}}"}}
    continue-on-error: true
inputs: {{folder: {{type: string}}}}
"""

    def relayed_agent(self, hub, name, relay):
        """An agent that reaches its hub through the relay."""
        a = Agent(_Ctx(self), hub, name, token=hub.join_token(uses=1), args=("--log-level", "debug"))
        r = a.join()
        self.assertEqual(r.returncode, 0, r.stderr)
        identity = a.dir / "identity.json"
        text = identity.read_text()
        self.assertIn(f":{hub.ports[0]}", text)
        identity.write_text(text.replace(f":{hub.ports[0]}", f":{relay.port}"))
        a.token = None
        return a.start()

    def echo_server(self):
        got = []

        class Echo(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                got.append((body, self.headers["X-Key"]))
                self.send_response(200)
                self.send_header("X-Echo", self.headers["X-Key"])
                self.end_headers()
                self.wfile.write(body + b" " + self.headers["X-Key"].encode())

            def log_message(self, *_):
                pass

        s = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
        threading.Thread(target=s.serve_forever, daemon=True).start()
        self.addCleanup(s.server_close)
        self.addCleanup(s.shutdown)
        return s.server_port, got

    def answers(self, hub, runs):
        """All that the API tells of these runs."""
        for path in ["/runs", "/secrets", "/secrets/CANARY", "/vault", "/audit?limit=500", "/audit/export", "/events?follow=false",
                     "/agents", "/checkpoints?state=all"]:
            status, data, _ = hub.api("GET", path, raw=True)
            self.assertEqual(status, 200, (path, data))
            yield path, data
        for run in runs:
            doc = hub.run_json(run)
            yield run, json.dumps(doc, ensure_ascii=False)
            for path in [f"/runs/{run}/events?follow=false", f"/runs/{run}/logs", f"/runs/{run}/explain"]:
                status, data, _ = hub.api("GET", path, raw=True)
                yield path, data
            for s in doc["steps"]:
                for more in ("", "/logs", "/logs?channel=event"):
                    status, data, _ = hub.api("GET", f"/runs/{run}/steps/{s['id']}{more}", raw=True)
                    yield f"{run} {s['id']}{more}", data

    def check_nowhere(self, hub, agent, canary, relay, runs, folders):
        found = []
        hits, looked = canary.found_in_files(*folders, "/dev/shm")
        found += hits
        self.assertGreater(looked, 10)
        for what, data in self.answers(hub, runs):
            found += [f"{what}: {n}" for n in canary.found(data)]
        wire = relay.seen()
        self.assertGreater(len(wire), 20000)
        found += [f"wire: {n}" for n in canary.found(wire)]
        self.assertEqual(found, [])

    def test_the_canary_is_found_nowhere(self):
        canary, plain = Canary(), Canary()
        plain.value = "pl" + plain.core
        hub = self.hub("--log-level", "debug")
        relay = Relay(hub.ports[0])
        self.addCleanup(relay.close)
        agent = self.relayed_agent(hub, "a1", relay)
        lines = [CommandLines(c) for c in (canary, plain)]
        for x in lines:
            x.start()
        self.secret(hub, "CANARY", canary.value)
        self.secret(hub, "PLAIN", plain.value)
        port, got = self.echo_server()
        work = self.dir / "work"
        work.mkdir()
        script = self.dir / "encode.py"
        script.write_text(self.ENCODE)
        run = hub.submit(self.canary_steps(port, script), folder=str(work))
        doc = hub.wait_run(run)
        self.assertEqual(doc["state"], "succeeded", doc)
        steps = {s["id"]: s for s in doc["steps"]}
        # They had it, all the same.
        self.assertEqual(got, [(f"b={canary.value}".encode(), plain.value)])
        self.assertEqual((work / "left-behind").read_text(), canary.value)
        for f in ("left-behind", "copy"):
            (work / f).unlink()
        self.assertEqual(steps["fails"]["exit_code"], 3)
        self.assertEqual(steps["stdin"]["outputs"]["stdout"], "***")
        self.assertEqual(steps["output"]["outputs"]["x"], "***")
        self.assertEqual(steps["bad-output"]["error"]["code"], "bad_output")
        logs = hub.api("GET", f"/runs/{run}/steps/encoded/logs", raw=True)[1].decode()
        self.assertIn("marker-of-the-logs", logs)
        self.assertGreater(logs.count("***"), 15)
        for c in (canary, plain):
            self.check_nowhere(hub, agent, c, relay, [run], [self.dir])
        for x in lines:
            x.stop()
            self.assertGreater(x.looked, 100)
            self.assertEqual(x.hits, set())

    def test_nothing_is_left_when_hub_and_agent_are_killed(self):
        canary = Canary()
        hub = self.hub("--lost-after", "2s", "--log-level", "debug")
        relay = Relay(hub.ports[0])
        self.addCleanup(relay.close)
        agent = self.relayed_agent(hub, "a1", relay)
        self.secret(hub, "CANARY", canary.value)
        go, more = self.dir / "go", self.dir / "more"
        steps = f"""
steps:
  - id: long
    run: |
      python3 -c 'import os; os.write(1, (os.environ["CANARY"] + "\\n").encode() * 50000)'
      echo "early=$CANARY" >> "$PHOTON_OUTPUT"
      echo started; cat "$F" > /dev/null
      while [ ! -e {more} ]; do sleep 0.05; done
      python3 -c 'import os; os.write(1, (os.environ["CANARY"] + " for the spool\\n").encode() * 200000)'
      while [ ! -e {go} ]; do sleep 0.05; done
      printf 'len=%s\\n' "${{#CANARY}}" >> "$PHOTON_OUTPUT"
    secrets: [CANARY, {{name: CANARY, as: F, file: true}}]
    effect: idempotent
"""
        run = hub.submit(steps)

        def started():
            return b"started" in hub.api("GET", f"/runs/{run}/steps/long/logs", raw=True)[1]

        wait_for("the step", started)
        hub.kill9()
        more.touch()  # what it writes now the agent has to keep
        wait_for("output on the agent's disk", lambda: Canary.text_in_files("*** for the spool", agent.dir))
        # What the step itself wrote into a file is there while it runs, and nowhere else.
        def but_outputs():
            return [h for h in canary.found_in_files(self.dir, "/dev/shm")[0] if "/output: " not in h]

        self.assertEqual(but_outputs(), [])
        hub.restart()
        wait_for("the agent", lambda: hub.agents()["a1"]["state"] == "online")
        agent.kill9()
        self.assertEqual(but_outputs(), [])
        agent.start()
        # A restarted agent knows nothing: the hub sends the secret again with the next attempt.
        wait_for("another attempt", lambda: hub.run_json(run)["steps"][0]["attempt"] > 1 and started())
        go.touch()
        doc = hub.wait_run(run)
        self.assertEqual((doc["state"], doc["steps"][0]["outputs"]["len"]), ("succeeded", str(len(canary.value.encode()))), doc)
        self.check_nowhere(hub, agent, canary, relay, [run], [self.dir])

    PLUGIN = """#!/usr/bin/env python3
import base64, json, os, sys
given = json.loads(sys.stdin.readline())
v = os.environ["CANARY"]
assert v == given["key"]["deep"][0], "the input has another value"
def say(**m): print(json.dumps(m), flush=True)
say(type="text", text="text " + v)
say(type="progress", progress=1, total=2, message=v)
print("no JSON: " + v, flush=True)
print("stderr " + base64.b64encode(v.encode()).decode(), file=sys.stderr, flush=True)
say(type="question", id="q1", title="May " + v + " go?", tool=v[:50], arguments={"cmd": ["curl", "-H", v], v: 1})
answer = json.loads(sys.stdin.readline())
say(type="text", text="answered " + answer["outcome"])
if given.get("fail"):
    say(type="error", code="plugin_failed", message="it failed with " + v + " and " + v[:len(v) - 3])
else:
    say(type="result", outputs={"value": v, v: "name", "list": [v, {"b64": base64.b64encode(v.encode()).decode()}]})
"""

    def test_plug_ins_and_their_questions_tell_nothing(self):
        canary = Canary()
        hub = self.hub("--log-level", "debug")
        relay = Relay(hub.ports[0])
        self.addCleanup(relay.close)
        agent = self.relayed_agent(hub, "a1", relay)
        self.secret(hub, "CANARY", canary.value)
        folder = agent.dir / "tools.d"
        (folder / "leaky.py").write_text(self.PLUGIN)
        (folder / "leaky.py").chmod(0o755)
        (folder / "leaky.yaml").write_text("name: demo.leaky\ndescription: Tells all\ncommand: [./leaky.py]\nquestions: true\n"
                                           "input_schema: {type: object}\n")
        wait_for("the tool", lambda: "demo.leaky" in json.dumps(hub.api("GET", "/tools")[1]))
        runs = []
        for fail in ("false", "true"):
            run = hub.submit("steps: [{id: p, uses: demo.leaky, secrets: [CANARY], with: {key: {deep: ['${{ secrets.CANARY }}']}, fail: %s}}]" % fail)
            runs.append(run)
            cp = wait_for("the question", lambda: hub.api("GET", f"/checkpoints?run={run}")[1]["items"])[0]
            self.assertEqual(cp["title"], "May *** go?")
            self.assertEqual(json.loads(hub.api("GET", f"/checkpoints/{cp['id']}")[1]["arguments"]), {"cmd": ["curl", "-H", "***"], "***": 1})
            self.assertEqual(hub.api("POST", f"/checkpoints/{cp['id']}/approve", {})[0], 200)
            hub.wait_run(run)
        ok, bad = (hub.run_json(r)["steps"][0] for r in runs)
        self.assertEqual(ok["outputs"]["value"], "***", ok)
        self.assertEqual(ok["outputs"]["***"], "name")
        self.assertEqual(bad["error"], {"code": "plugin_failed", "message": "it failed with *** and ***"})
        self.check_nowhere(hub, agent, canary, relay, runs, [self.dir])

    def test_neither_process_can_be_dumped(self):
        was = resource.getrlimit(resource.RLIMIT_CORE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_CORE, was)
        resource.setrlimit(resource.RLIMIT_CORE, (was[1], was[1]))  # what a machine may allow
        hub = self.hub()
        agent = self.agent(hub, "a1")
        for p in (hub.proc.p, agent.proc.p):
            limits = Path(f"/proc/{p.pid}/limits").read_text()
            self.assertRegex(limits, r"Max core file size\s+0\s")
        # The keys' page is locked into memory and marked as not to be dumped.
        maps = Path(f"/proc/{hub.proc.p.pid}/smaps").read_text()
        flags = [set(f.split()) for f in re.findall(r"VmFlags: (.*)", maps)]
        self.assertTrue(any({"lo", "dd"} <= f for f in flags), flags[:3])
        # What a crash leaves: no core file, whatever the machine's pattern is.
        agent.proc.p.send_signal(signal.SIGABRT)
        agent.proc.p.wait()
        agent.proc.close()
        self.assertEqual([p for p in self.dir.rglob("core*") if p.is_file()], [])


if __name__ == "__main__":
    unittest.main()
