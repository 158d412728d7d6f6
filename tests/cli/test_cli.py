"""photon against a hub that is a table of answers: exit statuses, what goes to which
descriptor, streams that break, bad input, and who gets to see the token."""
import base64
import hashlib
import json
import os
import re
import signal
import ssl
import subprocess
import threading
import time
import unittest

from fakehub import PHOTON, ROOT, TOKEN, FakeHub

# A shell that starts a job in the background ignores SIGINT for all that follows, and an ignored signal is
# inherited: Ctrl-C must mean to our programs what it means at a terminal.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

RUN = "01hub0000000000000000000aa"
AT = "2026-11-20T12:00:0%d.000000Z"


def step(state="succeeded", **more):
    return dict({"id": "call", "tool": "process.exec", "state": state, "attempt": 1, "agent": "a1", "needs": [], "exit_code": 0,
                 "error": None, "outputs": {}, "created_at": AT % 0, "started_at": AT % 1, "finished_at": AT % 2, "usage": {},
                 "output_bytes": 0}, **more)


def run_doc(state="succeeded", steps=(), **more):
    return dict({"id": RUN, "workflow": "w", "kind": "run", "state": state, "inputs": {}, "outputs": {}, "error": None,
                 "created_at": AT % 0, "started_at": AT % 0, "finished_at": AT % 3, "step_count": len(steps), "created_by": "t",
                 "steps": list(steps)}, **more)


def event(i, kind, **more):
    d = dict({"id": i, "time": AT % (i % 10), "type": kind, "run": RUN}, **more)
    return f"id: {i}\nevent: {kind}\ndata: {json.dumps(d)}\n\n"


def log_line(offset, data, channel="stdout", attempt=1, step_id="call"):
    d = {"step": step_id, "attempt": attempt, "offset": offset, "channel": channel, "time": AT % 0}
    try:
        d["data"] = data.decode()
        if "\0" in d["data"]:
            raise ValueError
    except ValueError:
        d.update(encoding="base64", data=base64.b64encode(data).decode())
    return json.dumps(d) + "\n"


def event_line(offset, ev, attempt=1, step_id="call"):
    n = len(json.dumps(ev)) + 1
    return json.dumps({"step": step_id, "attempt": attempt, "offset": offset, "channel": "event", "time": AT % 0, "length": n,
                       "event": ev}) + "\n"


def event_lines(events, **more):
    at, out = 0, []
    for ev in events:
        out.append(event_line(at, ev, **more))
        at += len(json.dumps(ev)) + 1
    return out


class Case(unittest.TestCase):
    def setUp(self):
        self.hub = FakeHub()
        self.addCleanup(self.hub.close)

    def photon(self, *args, **kw):
        return self.hub.run(*args, **kw)

    def paths(self):
        return [(q.method, q.path) for q in self.hub.seen]


class Words(Case):
    def test_wrong_usage_is_64_and_says_what_is_near(self):
        for args, near in [([], b"photon run"), (["rnus"], b"photon runs"), (["agent", "shw"], b"agent show"),
                           (["runs", "--stat", "x"], b"--state"), (["runs", "-o", "xml"], b"json"), (["agent"], b"agent list"),
                           (["exec", "ls"], b"behind --"), (["exec"], b"missing"), (["run"], b"FILE"), (["agent", "show", "a", "b"], b"too many"),
                           (["logs", "r", "--attempt", "1"], b"STEP"), (["run", "resolve", "r", "s", "maybe"], b"retry"),
                           (["call", "t", "--input", "{x"], b"--input"), (["call", "t", "--input", "[1]"], b"object"),
                           (["exec", "-a", "x", "-l", "a=b", "--", "true"], b"not both"), (["token", "create", "--uses", "0"], b"--uses"),
                           (["token", "create", "--ttl", "soon"], b"--ttl"), (["agent", "label", "a", "=x"], b"KEY=VALUE"),
                           (["import", "wfformat", "x", "--scale", "-1"], b"--scale"), (["completion", "csh"], b"fish")]:
            r = self.photon(*args)
            self.assertEqual(r.returncode, 64, (args, r))
            self.assertIn(near, r.stderr, args)
            self.assertEqual(r.stdout, b"", args)
        self.assertEqual(self.hub.seen, [])

    def test_help_is_everywhere(self):
        doc = json.loads(self.photon("help", "-o", "json").stdout)
        self.assertGreater(len(doc["commands"]), 25)
        for c in doc["commands"]:
            r = self.photon(*c["name"].split(), "--help")
            self.assertEqual((r.returncode, r.stderr), (0, b""), c["name"])
            self.assertIn(c["summary"].encode(), r.stdout)
            for f in c["flags"]:
                self.assertIn(b"--" + f["name"].encode(), r.stdout)
        for args in (["--help"], ["-h"], ["agent", "--help"], ["help", "run"], ["help"]):
            self.assertEqual(self.photon(*args).returncode, 0, args)

    def test_reference_names_every_command_and_flag(self):
        doc, text = json.loads(self.photon("help", "-o", "json").stdout), (ROOT / "docs/CLI.md").read_text()
        sections = dict(re.findall(r"^### photon ([a-z -]+?)(?: *`[^\n]*)?\n(.*?)(?=^##|\Z)", text, re.M | re.S))
        self.assertEqual(sorted(sections), sorted(c["name"] for c in doc["commands"]))
        for c in doc["commands"]:
            have = set(re.findall(r"^- `(?:-\w, )?--([a-z0-9-]+)", sections[c["name"]], re.M))
            self.assertEqual(have, {f["name"] for f in c["flags"]}, c["name"])
        for f in doc["flags"]:
            self.assertIn(f"`{'-' + f['letter'] + ', ' if 'letter' in f else ''}--{f['name']}", text)

    def test_completion_scripts_are_sound(self):
        for shell in ("bash", "zsh", "fish"):
            r = self.photon("completion", shell)
            self.assertEqual(r.returncode, 0)
            for word in (b"wfformat", b"detach", b"undrain"):
                self.assertIn(word, r.stdout)
        bash = self.photon("completion", "bash").stdout.decode()
        ask = bash + '\nCOMP_WORDS=(photon --hub x agent ""); COMP_CWORD=4; _photon; echo "${COMPREPLY[*]}"'
        out = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, timeout=20)
        self.assertEqual((out.stdout.split(), out.stderr), (["list", "show", "drain", "undrain", "revoke", "label"], ""))

    def test_flags_stand_before_and_after(self):
        self.hub.answers["GET", "/api/v1/agents"] = lambda h, q: {"items": [{"name": "a1", "state": "online"}], "next_cursor": None}
        env = self.hub.env()
        del env["PHOTON_HUB"]
        for args in (["-o", "json", "--hub", self.hub.url, "agents"], ["agents", "--hub", self.hub.url, "-ojson"],
                     ["--hub=" + self.hub.url, "agent", "list", "--output=json"]):
            r = self.photon(*args, env=env)
            self.assertEqual((r.returncode, json.loads(r.stdout)[0]["name"]), (0, "a1"), args)

    def test_work_goes_to_the_named_project(self):
        self.hub.answers["GET", "/api/v1/runs"] = lambda h, q: {"items": [], "next_cursor": None}
        self.hub.answers["GET", "/api/v1/agents"] = lambda h, q: {"items": [], "next_cursor": None}
        self.hub.answers["GET", "/api/v1/checkpoints"] = lambda h, q: {"items": [], "next_cursor": None}
        env = dict(self.hub.env(), PHOTON_PROJECT="from-env")
        for args, want in ((["runs", "--project", "web"], "web"), (["--project", "a b&c", "checkpoints"], "a b&c")):
            self.assertEqual(self.photon(*args).returncode, 0)
            self.assertEqual(self.hub.seen[-1].query.get("project"), want)
        self.assertEqual(self.photon("runs", env=env).returncode, 0)
        self.assertEqual(self.hub.seen[-1].query["project"], "from-env")
        self.assertEqual(self.photon("runs").returncode, 0)
        self.assertNotIn("project", self.hub.seen[-1].query)
        self.assertEqual(self.photon("agents", "--project", "web").returncode, 0)
        self.assertNotIn("project", self.hub.seen[-1].query)

    def test_users_projects_and_their_roles(self):
        member = {"name": "ann b", "project": "web", "role": "operator"}
        self.hub.answers["POST", "/api/v1/users"] = lambda h, q: {"name": q.json["name"], "kind": q.json.get("kind", "user")}
        self.hub.answers["PUT", "/api/v1/projects/web/members/ann b"] = lambda h, q: member
        self.hub.answers["DELETE", "/api/v1/projects/*/members/ann b"] = lambda h, q: h.reply(204, b"")
        self.hub.answers["POST", "/api/v1/projects"] = lambda h, q: {"name": q.json["name"]}
        self.hub.answers["GET", "/api/v1/users"] = lambda h, q: {"items": [
            {"name": "ann", "kind": "user", "state": "active", "roles": {"web": "operator"}, "provider_roles": {"*": "client"}}],
            "next_cursor": None}
        self.assertEqual(self.photon("user", "create", "bot", "--service").returncode, 0)
        self.assertEqual(self.hub.seen[-1].json, {"name": "bot", "kind": "service"})
        r = self.photon("user", "grant", "ann b", "operator")
        self.assertEqual(r.returncode, 64)
        self.assertIn(b"--project", r.stderr)
        self.assertEqual(self.photon("user", "grant", "ann b", "operator", "--project", "web").returncode, 0)
        self.assertEqual(self.hub.seen[-1].json, {"role": "operator"})
        self.assertEqual(self.photon("user", "ungrant", "ann b", "--project", "*").returncode, 0)
        self.assertEqual(self.photon("project", "create", "web", "--title", "The web").returncode, 0)
        self.assertEqual(self.hub.seen[-1].json, {"name": "web", "title": "The web"})
        r = self.photon("user", "list")
        self.assertIn(b"web: operator, *: client", r.stdout)

    def test_api_tokens_say_what_they_are_limited_to(self):
        made = lambda h, q: {"id": "t1", "token": "pat_new"}
        self.hub.answers["POST", "/api/v1/api-tokens"] = made
        self.hub.answers["POST", "/api/v1/self/api-tokens"] = made
        r = self.photon("api-token", "create", "--name", "ci", "--project", "web", "--scope", "runs.read", "--scope", "runs.submit",
                        "--user", "ann", "--ttl", "1h")
        self.assertEqual((r.returncode, r.stdout), (0, b"pat_new\n"))
        self.assertEqual(self.hub.seen[-1].json, {"name": "ci", "role": "client", "ttl": "1h", "project": "web", "user": "ann",
                                                  "scopes": ["runs.read", "runs.submit"]})
        self.assertEqual(self.photon("api-token", "create", "--name", "x", "--own").returncode, 0)
        self.assertEqual(self.hub.seen[-1].path, "/api/v1/self/api-tokens")

    def test_version_needs_no_hub(self):
        env = self.hub.env()
        env["PHOTON_HUB"] = "https://127.0.0.1:1"
        r = self.photon("version", env=env)
        self.assertEqual(r.returncode, 0)
        self.assertTrue(r.stdout.startswith(b"photon "))
        self.hub.answers["GET", "/version"] = lambda h, q: {"version": "9.9"}
        self.assertEqual(json.loads(self.photon("version", "-o", "json").stdout)["hub"]["version"], "9.9")


class Trust(Case):
    def setUp(self):
        super().setUp()
        self.hub.answers["GET", "/api/v1/whoami"] = lambda h, q: {"name": "me", "role": "admin", "permissions": ["x"]}
        self.hub.answers["GET", "/api/v1/agents"] = lambda h, q: {"items": [], "next_cursor": None}
        self.context = self.hub.dir / "config/photon/context.json"

    def pin(self):
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(self.hub.ca.read_text())).hexdigest()

    def bare(self, **more):
        env = self.hub.env()
        for k in ("PHOTON_HUB", "PHOTON_TOKEN", "PHOTON_CA"):
            del env[k]
        return dict(env, **more)

    def test_nobody_there_is_69(self):
        r = self.photon("agents", "--hub", "https://127.0.0.1:1")
        self.assertEqual((r.returncode, r.stdout), (69, b""))
        self.assertIn(b"https://127.0.0.1:1", r.stderr)

    def test_an_unproved_hub_never_sees_the_token(self):
        env = self.hub.env()
        del env["PHOTON_CA"]
        r = self.photon("agents", env=env)
        self.assertEqual(r.returncode, 69)
        self.assertEqual(self.hub.seen, [])
        other = FakeHub()
        self.addCleanup(other.close)
        r = self.photon("agents", "--ca", other.ca)
        self.assertEqual((r.returncode, self.hub.seen), (69, []))
        self.assertNotIn(TOKEN.encode(), r.stderr)

    def test_401_and_403_are_4(self):
        self.hub.answers["POST", "/api/v1/agents/a/revoke"] = lambda h, q: h.problem(403, "permission_denied", "bob lacks agents.manage")
        self.assertEqual(self.photon("agents", "--token", "pat_wrong").returncode, 4)
        r = self.photon("agent", "revoke", "a")
        self.assertEqual(r.returncode, 4)
        self.assertIn(b"bob lacks agents.manage. Ask an admin", r.stderr)
        # A role would not help whoever may not answer their own question.
        self.hub.answers["POST", "/api/v1/agents/a/revoke"] = lambda h, q: h.problem(403, "own_request", "bob started the run that asks")
        r = self.photon("agent", "revoke", "a")
        self.assertEqual((r.returncode, r.stderr.split(b"not allowed: ")[1]), (4, b"bob started the run that asks\n"))

    def test_no_hub_known_says_how(self):
        r = self.photon("agents", env=self.bare())
        self.assertEqual(r.returncode, 64)
        self.assertIn(b"photon login", r.stderr)

    def test_plain_http_is_refused(self):
        r = self.photon("agents", "--hub", "http://127.0.0.1:1")
        self.assertEqual(r.returncode, 64)
        self.assertIn(b"HTTPS", r.stderr)

    def test_login_pins_what_was_said_and_keeps_it_private(self):
        r = self.photon("login", "--hub", self.hub.url, "--token", TOKEN, "--ca-sha256", self.pin().upper(), env=self.bare())
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertEqual(self.context.stat().st_mode & 0o777, 0o600)
        self.assertEqual(self.photon("agents", env=self.bare()).returncode, 0)
        self.assertEqual(self.photon("logout", env=self.bare()).returncode, 0)
        self.assertEqual(self.photon("agents", env=self.bare()).returncode, 64)

    def test_login_refuses_another_authority_before_the_token_leaves(self):
        r = self.photon("login", "--hub", self.hub.url, "--token", TOKEN, "--ca-sha256", "0" * 64, env=self.bare())
        self.assertEqual(r.returncode, 4)
        self.assertFalse(self.context.exists())
        self.assertFalse([q for q in self.hub.seen if q.headers.get("Authorization")])

    def test_login_that_fails_leaves_what_was_there(self):
        self.assertEqual(self.photon("login", env=self.hub.env()).returncode, 0)
        before = self.context.read_text()
        r = self.photon("login", "--hub", self.hub.url, "--token", "pat_wrong", "--ca", self.hub.ca, env=self.bare())
        self.assertEqual((r.returncode, self.context.read_text()), (4, before))

    def test_flag_over_environment_over_context(self):
        self.assertEqual(self.photon("login", env=self.hub.env()).returncode, 0)
        self.hub.seen.clear()
        self.photon("agents", env=self.bare(PHOTON_TOKEN="from-env"))
        self.photon("agents", "--token", "from-flag", env=self.bare(PHOTON_TOKEN="from-env"))
        (self.hub.dir / "t").write_text("from-file\n")
        self.photon("agents", env=self.bare(PHOTON_TOKEN_FILE=str(self.hub.dir / "t")))
        self.photon("agents", env=self.bare())
        self.assertEqual([q.headers["Authorization"].split()[1] for q in self.hub.seen], ["from-env", "from-flag", "from-file", TOKEN])

    def test_a_stored_token_goes_only_where_its_authority_vouches(self):
        self.assertEqual(self.photon("login", env=self.hub.env()).returncode, 0)
        other = FakeHub()
        self.addCleanup(other.close)
        other.answers.update(self.hub.answers)
        r = self.photon("agents", "--hub", other.url, "--ca", other.ca, env=self.bare())
        self.assertEqual(r.returncode, 4)
        self.assertEqual([q.headers.get("Authorization") for q in other.seen], [None])
        # The same hub by another of its names: the stored authority proves it.
        r = self.photon("agents", "--hub", self.hub.url.replace("127.0.0.1", "localhost"), env=self.bare())
        self.assertEqual(r.returncode, 0, r.stderr)


class Submitting(Case):
    def submit(self, final, events, **run):
        """events: list of lists, one per connection; the last ends well, the others break."""
        self.tries = []
        self.hub.answers["POST", "/api/v1/runs"] = lambda h, q: run_doc("queued")
        self.hub.answers["GET", f"/api/v1/runs/{RUN}"] = lambda h, q: run_doc(final, **run)

        def serve(h, q):
            n = len(self.tries)
            self.tries.append(q.headers.get("Last-Event-ID"))
            h.stream(events[min(n, len(events) - 1)], broken=n < len(events) - 1)

        self.hub.answers["GET", f"/api/v1/runs/{RUN}/events"] = serve
        (self.hub.dir / "w.yaml").write_text("steps: []\n")


class Runs(Submitting):
    def test_statuses_and_the_id_comes_first(self):
        for state, status in (("succeeded", 0), ("failed", 1), ("cancelled", 2)):
            self.submit(state, [[event(1, "run.created", workflow="w"), event(2, f"run.{state}")]])
            r = self.photon("run", "w.yaml")
            self.assertEqual(r.returncode, status, state)
            self.assertEqual(r.stderr.split(b"\n")[0].decode(), RUN)
            self.assertIn(state.encode(), r.stdout)

    def test_json_is_one_document(self):
        self.submit("failed", [[event(1, "run.created"), event(2, "run.failed")]], steps=[step("failed", exit_code=3)])
        r = self.photon("run", "w.yaml", "-o", "json")
        self.assertEqual((r.returncode, json.loads(r.stdout)["steps"][0]["exit_code"]), (1, 3))
        self.assertEqual(len(r.stdout.splitlines()), 1)

    def test_follows_through_a_restart_by_last_event_id(self):
        self.submit("succeeded", [[event(1, "run.created"), event(2, "run.started")], [event(3, "step.started", step="a", agent="x")],
                                  [event(4, "step.succeeded", step="a", agent="x"), event(5, "run.succeeded")]])
        r = self.photon("run", "w.yaml")
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertEqual(self.tries, [None, "2", "3"])
        self.assertIn(b"trying again", r.stderr)
        self.assertEqual(r.stdout.count(b"a: running on x"), 1)

    def test_a_stream_that_ends_early_and_well_is_opened_again(self):
        self.submit("succeeded", [[event(1, "run.created")]])
        served = []

        def serve(h, q):
            served.append(q.headers.get("Last-Event-ID"))
            h.stream([event(1, "run.created")] if len(served) == 1 else [event(2, "run.succeeded")])

        self.hub.answers["GET", f"/api/v1/runs/{RUN}/events"] = serve
        self.assertEqual(self.photon("run", "w.yaml").returncode, 0)
        self.assertEqual(served, [None, "1"])

    def test_failed_steps_show_the_end_of_stderr_and_what_to_do(self):
        self.submit("failed", [[event(1, "run.created"), event(2, "run.failed")]],
                    steps=[step("failed", id="b", error={"code": "exit_nonzero", "message": "status 3"}, output_bytes=9)])
        self.hub.answers["GET", f"/api/v1/runs/{RUN}/steps/b/logs"] = lambda h, q: h.stream(
            ["".join(f"line {i}\n" for i in range(50)) if q.query["channel"] == "stderr" else "no"], "application/octet-stream")
        r = self.photon("run", "w.yaml")
        self.assertIn(b"line 49", r.stdout)
        self.assertNotIn(b"line 39\n", r.stdout)
        self.assertIn(f"photon logs {RUN} b".encode(), r.stdout)
        self.assertIn(f"photon run retry {RUN}".encode(), r.stdout)

    def test_escape_sequences_from_elsewhere_are_not_passed_on(self):
        self.submit("failed", [[event(1, "run.created"), event(2, "step.failed", step="a", error={"code": "x", "message": "\x1b[2Jgone\x9b"}),
                                event(3, "run.failed")]], error={"code": "x", "message": "\x1b]0;title\x07"})
        r = self.photon("run", "w.yaml")
        self.assertNotIn(b"\x1b", r.stdout + r.stderr)
        self.assertNotIn("\x9b".encode(), r.stdout)

    def test_inputs_as_flags_and_from_a_file(self):
        self.submit("succeeded", [[event(1, "run.created"), event(2, "run.succeeded")]])
        (self.hub.dir / "w.yaml").write_text("inputs: {n: {type: number}, s: {}, b: {default: true}}\nsteps: []\n")
        (self.hub.dir / "in.yaml").write_text("n: 1\ns: file\n")
        self.photon("run", "--detach", "w.yaml", "-i", "s=a=b ü&", "-i", "n=2")
        self.photon("run", "--detach", "w.yaml", "-i", "n=2", "-i", "b=false", "--inputs", "in.yaml")
        self.photon("run", "--detach", "w.yaml", "-i", "n=2", "-i", "s=" + "x" * 10000)
        posts = [q for q in self.hub.seen if q.method == "POST"]
        self.assertEqual((posts[0].query, "inputs" in posts[0].json), ({"input.s": "a=b ü&", "input.n": "2"}, False))
        self.assertEqual(posts[1].json["inputs"], {"n": 2, "s": "file", "b": False})
        self.assertEqual(posts[2].json["inputs"]["n"], 2)
        self.assertEqual(len({q.headers["Idempotency-Key"] for q in posts}), 3)
        self.assertEqual(posts[0].json["workflow"], (self.hub.dir / "w.yaml").read_text())

    def test_detach_prints_the_id_for_scripts(self):
        self.submit("queued", [[]])
        r = self.photon("run", "--detach", "w.yaml")
        self.assertEqual((r.returncode, r.stdout.decode().strip()), (0, RUN))
        r = self.photon("run", "--detach", "-", stdin=b"steps: []\n", )
        self.assertEqual(self.hub.seen[-1].json["workflow"], "steps: []\n")

    def test_mistakes_have_a_place(self):
        self.hub.answers["POST", "/api/v1/runs"] = lambda h, q: h.problem(400, "invalid_argument", "unknown key \"rnu\"", line=4, column=5)
        self.hub.answers["POST", "/api/v1/validate"] = lambda h, q: h.reply(200, {
            "valid": False, "errors": [{"line": 4, "column": 5, "message": "unknown key", "code": "invalid_argument"}], "warnings": []})
        (self.hub.dir / "bad.yaml").write_text("x")
        for cmd in ("run", "validate"):
            r = self.photon(cmd, "bad.yaml")
            self.assertEqual(r.returncode, 1)
            self.assertTrue(r.stderr.startswith(b"bad.yaml:4:5: unknown key"), r.stderr)
        r = self.photon("validate", "bad.yaml", "-o", "json")
        self.assertEqual((r.returncode, json.loads(r.stdout)["valid"]), (1, False))
        self.assertEqual(self.photon("run", "absent.yaml").returncode, 1)
        (self.hub.dir / "bin").write_bytes(b"\xff\0")
        self.assertIn(b"UTF-8", self.photon("run", "bin").stderr)
        self.assertIn(b"folder", self.photon("run", ".").stderr)

    def test_a_broken_submit_is_sent_again_with_the_same_key(self):
        keys = []

        def post(h, q):
            keys.append(q.headers["Idempotency-Key"])
            if len(keys) == 1:
                h.close_connection = True
                h.connection.close()
                return None
            if len(keys) == 2:
                return h.problem(503, "unavailable", "the hub is stopping")
            return run_doc("queued")

        self.hub.answers["POST", "/api/v1/runs"] = post
        (self.hub.dir / "w.yaml").write_text("steps: []\n")
        r = self.photon("run", "--detach", "w.yaml")
        self.assertEqual((r.returncode, len(keys), len(set(keys))), (0, 3, 1), r.stderr)

    def test_interrupted_following_leaves_the_run(self):
        self.submit("running", [[event(1, "run.created")]])
        gate = threading.Event()

        def serve(h, q):
            def chunks():
                yield event(1, "run.created")
                gate.wait(20)
            h.stream(chunks())

        self.hub.answers["GET", f"/api/v1/runs/{RUN}/events"] = serve
        p = subprocess.Popen([PHOTON, "run", "w.yaml"], cwd=self.hub.dir, env=self.hub.env(), stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        p.stdout.readline()
        p.send_signal(signal.SIGINT)
        out, err = p.communicate(timeout=20)
        gate.set()
        self.assertEqual(p.returncode, 130)
        self.assertIn(b"the run goes on", err)
        self.assertNotIn(("POST", f"/api/v1/runs/{RUN}/cancel"), self.paths())

    def test_lists_fetch_all_pages(self):
        def serve(h, q):
            at = int(q.query.get("cursor", "0"))
            n = int(q.query["limit"])
            return {"items": [run_doc(id=f"r{i}", steps=[]) for i in range(at, min(at + n, 700))],
                    "next_cursor": str(at + n) if at + n < 700 else None}

        self.hub.answers["GET", "/api/v1/runs"] = serve
        self.assertEqual(len(json.loads(self.photon("runs", "-n", "0", "-o", "json").stdout)), 700)
        self.assertEqual(len(json.loads(self.photon("runs", "-o", "json", "--state", "failed").stdout)), 50)
        self.assertEqual(self.hub.seen[-1].query["state"], "failed")
        self.assertEqual(len(self.photon("runs", "-n", "3").stdout.splitlines()), 4)


class Exec(Case):
    """What comes out, in pieces; what goes in, by offsets."""

    def serve(self, pieces, state="succeeded", code=0, error=None, after=None, breaks=()):
        self.taken, self.fed, self.posted, self.opened = bytearray(), threading.Event(), [], []
        self.hub.answers["POST", "/api/v1/calls"] = lambda h, q: (self.posted.append(q.json), run_doc("running"))[1]

        def logs(h, q):
            self.opened.append(q.query)
            if after:
                after.wait(20)
            n = len(self.opened) - 1
            start = int(q.query.get("offset", 0))
            if n < len(breaks):
                return h.stream([log_line(*p) for p in pieces[:breaks[n]]], broken=True)
            return h.stream([log_line(*p) for p in pieces if p[0] >= start], "application/x-ndjson")

        self.hub.answers["GET", f"/api/v1/runs/{RUN}/steps/call/logs"] = logs
        self.hub.answers["GET", f"/api/v1/runs/{RUN}"] = lambda h, q: run_doc(
            "cancelled" if state == "cancelled" else "succeeded" if state == "succeeded" else "failed",
            [step(state, exit_code=code, error=error)], kind="call")

        def stdin(h, q):
            at, eof = int(q.query["offset"]), q.query.get("eof") == "true"
            if at > len(self.taken):
                return h.problem(409, "invalid_argument", "gap", taken=len(self.taken))
            self.taken += q.body[len(self.taken) - at:]
            if eof:
                self.fed.set()
            return {"taken": len(self.taken)}

        self.stdin = stdin
        self.hub.answers["PUT", f"/api/v1/runs/{RUN}/stdin"] = stdin

    def test_bytes_reach_the_right_descriptor_untouched(self):
        raw = bytes(range(256)) * 3
        self.serve([(0, raw), (len(raw), b"oops \xff\n", "stderr"), (len(raw) + 7, b"end, no newline")])
        r = self.photon("exec", "--", "x")
        self.assertEqual((r.returncode, r.stdout, r.stderr), (0, raw + b"end, no newline", b"oops \xff\n"))
        self.assertEqual(self.posted[0]["input"], {"argv": ["x"]})

    def test_exit_status_is_the_commands(self):
        for code, error, message, status in ((7, "exit_nonzero", "x", 7), (137, "killed_by_signal", "x", 137),
                                             (None, "policy_denied", "why not", 1), (None, "spawn_failed", "command not found: x", 127),
                                             (None, "spawn_failed", "may not be run", 126), (143, "timeout", "ran longer", 143)):
            self.serve([], "failed", code, {"code": error, "message": message})
            r = self.photon("exec", "--", "x")
            self.assertEqual(r.returncode, status)
            self.assertEqual(r.stderr.decode(), "" if message == "x" else f"photon: {message}\n")

    def test_flags_reach_the_call(self):
        self.serve([])
        self.photon("exec", "-l", "gpu=yes", "-l", "os=linux", "-t", "90s", "-e", "A=b=c", "-C", "/srv", "--effect", "pure", "-n", "--", "a", "--b", "-c")
        self.assertEqual(self.posted[0], {"tool": "process.exec", "labels": {"gpu": "yes", "os": "linux"}, "timeout": "1m30s",
                                          "effect": "pure", "input": {"argv": ["a", "--b", "-c"], "env": {"A": "b=c"}, "cwd": "/srv"}})

    def test_output_goes_on_after_a_break_at_its_offset(self):
        pieces = [(0, b"one "), (4, b"two "), (8, b"three ", "stderr"), (14, b"four")]
        self.serve(pieces, breaks=[2, 1])
        r = self.photon("exec", "--", "x")
        self.assertEqual((r.returncode, r.stdout), (0, b"one two four"))
        self.assertTrue(r.stderr.endswith(b"three "))
        self.assertEqual([(q.get("attempt"), q.get("offset")) for q in self.opened], [(None, None), ("1", "8"), ("1", "8")])

    def test_stdin_arrives_whole_with_pressure_and_breaks(self):
        data = os.urandom(1_000_000)
        over = threading.Event()
        self.serve([(0, b"done")], after=over)
        calls = []

        def stdin(h, q):
            calls.append(q)
            if len(calls) % 4 == 2:
                return h.problem(409, "resource_exhausted", "full", taken=len(self.taken))
            if len(calls) == 7:
                h.close_connection = True
                h.connection.close()
                return None
            answer = self.stdin(h, q)
            if self.fed.is_set():
                over.set()
            return answer

        self.hub.answers["PUT", f"/api/v1/runs/{RUN}/stdin"] = stdin
        r = self.photon("exec", "--", "cat", stdin=data)
        self.assertEqual((r.returncode, r.stdout), (0, b"done"))
        self.assertEqual(bytes(self.taken), data)
        self.assertEqual(self.posted[0]["stdin"], True)
        self.assertTrue(all(len(q.body) <= 64 << 10 for q in calls))

    def test_a_tool_that_reads_no_more_ends_the_feeding(self):
        over = threading.Event()
        self.serve([], after=over)
        n = []

        def stdin(h, q):
            n.append(q)
            over.set()
            return h.problem(409, "closed", "reads no more", taken=0)

        self.hub.answers["PUT", f"/api/v1/runs/{RUN}/stdin"] = stdin
        r = self.photon("exec", "--", "true", stdin=b"x" * 300000)
        self.assertEqual((r.returncode, r.stderr, len(n)), (0, b"", 1))

    def test_ctrl_c_cancels_and_waits(self):
        over = threading.Event()
        self.serve([], "cancelled", 143, {"code": "cancelled", "message": "cancelled by t"}, after=over)
        self.hub.answers["POST", f"/api/v1/runs/{RUN}/cancel"] = lambda h, q: (over.set(), run_doc("running"))[1]
        p = subprocess.Popen([PHOTON, "exec", "-n", "--", "sleep", "9"], cwd=self.hub.dir, env=self.hub.env(), stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE)
        while not self.opened and p.poll() is None:
            time.sleep(0.01)
        p.send_signal(signal.SIGINT)
        _, err = p.communicate(timeout=20)
        self.assertEqual(p.returncode, 2, err)
        self.assertIn(("POST", f"/api/v1/runs/{RUN}/cancel"), self.paths())

    def test_a_second_ctrl_c_leaves(self):
        never = threading.Event()
        self.serve([], after=never)
        asked = threading.Event()
        self.hub.answers["POST", f"/api/v1/runs/{RUN}/cancel"] = lambda h, q: (asked.set(), run_doc("running"))[1]
        p = subprocess.Popen([PHOTON, "exec", "-n", "--", "sleep", "9"], cwd=self.hub.dir, env=self.hub.env(), stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE)
        while not self.opened and p.poll() is None:
            time.sleep(0.01)
        p.send_signal(signal.SIGINT)
        self.assertTrue(asked.wait(20))
        time.sleep(0.2)  # the answer to the first must have been read
        p.send_signal(signal.SIGINT)
        p.communicate(timeout=20)
        never.set()
        self.assertEqual(p.returncode, 130)

    def test_call_prints_the_outputs(self):
        self.hub.answers["POST", "/api/v1/calls"] = lambda h, q: run_doc("succeeded", [step(outputs={"x": [1, "ü"]})])
        r = self.photon("call", "photon.echo", "--input", '{"a": 1}')
        self.assertEqual((r.returncode, json.loads(r.stdout)), (0, {"x": [1, "ü"]}))
        (self.hub.dir / "i.json").write_text('{"b": 2}')
        self.photon("call", "photon.echo", "--input", "@i.json", "-a", "a1")
        self.assertEqual(self.hub.seen[-1].json, {"tool": "photon.echo", "agent": "a1", "input": {"b": 2}})
        self.hub.answers["POST", "/api/v1/calls"] = lambda h, q: run_doc(
            "failed", [step("failed", error={"code": "not_found", "message": "no such file"})])
        r = self.photon("call", "file.read", "-o", "json")
        self.assertEqual((r.returncode, r.stdout), (1, b""))
        self.assertIn(b"no such file (not_found)", r.stderr)


TALK = [
    {"type": "thought", "text": "hm, "}, {"type": "thought", "text": "the index"},
    {"type": "text", "text": "I will "}, {"type": "text", "text": "change it.\nNow:"},
    {"type": "plan", "entries": [{"text": "read", "status": "completed"}, {"text": "write", "status": "running"}]},
    {"type": "tool", "id": "t1", "kind": "edit", "title": "Write index.html", "status": "pending"},
    {"type": "tool", "id": "t1", "locations": [{"path": "/srv/index.html", "line": 3}]},
    {"type": "question", "id": 1, "title": "Write index.html", "tool": "Write", "arguments": {"path": "/srv/index.html"}},
    {"type": "answer", "id": 1, "outcome": "allowed", "by": "eve", "reason": "looks right"},
    {"type": "tool", "id": "t1", "status": "completed",
     "diff": [{"path": "/srv/index.html", "old_text": "a\nb\nc\n", "new_text": "a\nB\nc\n"}], "output": "1\n2\n3\n4\n5\n6\n"},
    {"type": "progress", "progress": 1, "total": 10, "message": "copying"}, {"type": "progress", "progress": 1.1, "total": 10, "message": "copying"},
    {"type": "log", "level": "debug", "message": "unseen"}, {"type": "log", "level": "warning", "message": "slow"},
    {"type": "usage", "input_tokens": 5}, {"type": "usage", "input_tokens": 12000, "output_tokens": 300, "cost_usd": 0.0123,
                                           "cost_source": "price-table", "model": "m-1"},
    {"type": "from-the-future", "x": 1}, {"type": "result", "status": "succeeded"}]

SHOWN = """~ hm, the index
I will change it.
Now:
plan:
  [x] read
  [>] write
* edit Write index.html  [pending]
? Write index.html
    Write {"path":"/srv/index.html"}
! allowed by eve: looks right
* edit Write index.html  [completed]
    /srv/index.html (+1 -1)
    - b
    + B
    1
    2
    3
    4
    (2 more lines)
... 10% copying
warning: slow
used: 12.0k in, 300 out tokens, $0.0123 by the price table (m-1)
"""


class Events(Case):
    """What tools say while they work, for people."""

    def call(self, lines, outputs=None, cut=None, **kw):
        self.opened = []
        self.hub.answers["POST", "/api/v1/calls"] = lambda h, q: run_doc("running", [step("running", outputs={})], kind="call")
        self.hub.answers["GET", f"/api/v1/runs/{RUN}"] = lambda h, q: run_doc("succeeded", [step(outputs=outputs or {"text": "x"})])

        def logs(h, q):
            self.opened.append(q.query)
            if cut and len(self.opened) == 1:
                return h.stream(lines[:cut], "application/x-ndjson", broken=True)
            h.stream(lines, "application/x-ndjson")  # from the beginning, whatever was asked for

        self.hub.answers["GET", f"/api/v1/runs/{RUN}/steps/call/logs"] = logs
        return self.photon("call", "some.tool", *kw.pop("args", ()), **kw)

    def test_each_type_is_shown_once_on_stderr_and_the_outputs_alone_on_stdout(self):
        r = self.call(event_lines(TALK))
        self.assertEqual((r.returncode, json.loads(r.stdout)), (0, {"text": "x"}))
        self.assertEqual(r.stderr.decode(), SHOWN)
        self.assertEqual(self.opened[0], {"format": "json", "follow": "true", "channel": "event"})

    def test_after_a_break_nothing_is_lost_or_shown_twice(self):
        r = self.call(event_lines(TALK), cut=7)
        self.assertEqual(r.stderr.decode(), SHOWN)
        self.assertEqual(len(self.opened), 2)
        self.assertEqual(self.opened[1]["attempt"], "1")

    def test_json_has_only_questions_beside_it(self):
        r = self.call(event_lines(TALK), args=("-o", "json"))
        self.assertEqual(json.loads(r.stdout), {"text": "x"})
        self.assertEqual([x[0] for x in r.stderr.decode().splitlines()], ["?", " ", "!"])

    def test_no_event_reaches_the_terminal_with_its_control_characters(self):
        evil = "\x1b[2J\x1b]0;t\x07\x9b31m\r\b\u202egpj\u2066"
        evs = [{"type": "text", "text": evil}, {"type": "thought", "text": evil},
               {"type": "tool", "id": evil, "kind": evil, "title": evil, "status": evil, "output": evil, "name": evil,
                "locations": [{"path": evil, "line": 1}], "diff": [{"path": evil, "old_text": evil, "new_text": evil + "x"}]},
               {"type": "plan", "entries": [{"text": evil, "status": evil}]}, {"type": "progress", "progress": 1, "message": evil},
               {"type": "log", "level": evil, "message": evil},
               {"type": "question", "id": 1, "title": evil, "tool": evil, "arguments": {evil: evil}, "sha256": evil},
               {"type": "answer", "id": 1, "outcome": evil, "by": evil, "reason": evil}, {"type": "usage", "input_tokens": 1, "model": evil}]
        for args in ((), ("-o", "json")):
            r = self.call(event_lines(evs), args=args)
            for bad in ("\x1b", "\x07", "\x9b", "\r", "\b", "\u202e", "\u2066"):
                self.assertNotIn(bad.encode(), r.stderr, (bad, args))
            self.assertIn(b"[2J", r.stderr)

    def test_wrong_types_and_huge_ones_do_not_matter(self):
        evs = [{"type": 5}, {}, {"type": "text", "text": 7}, {"type": "tool"}, {"type": "tool", "id": "a", "diff": "x", "locations": 3},
               {"type": "plan", "entries": "none"}, {"type": "plan", "entries": [1, None, {"text": 3}]}, {"type": "usage", "cost_usd": "much"},
               {"type": "progress", "progress": "x", "total": 0}, {"type": "progress", "progress": 5, "total": 1, "message": "m"},
               {"type": "question"}, {"type": "answer"}, {"type": "log"},
               {"type": "tool", "id": "b", "title": "t" * 100000, "status": "running"},
               {"type": "tool", "id": "c", "title": "d", "diff": [{"path": "p", "new_text": "line\n" * 10000}]}]
        r = self.call(event_lines(evs))
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertLess(max(len(x) for x in r.stderr.splitlines()), 330)
        self.assertIn(b"(9994 more)", r.stderr)
        self.assertIn(b"p (new file, +10000)", r.stderr)

    def test_a_question_names_the_command_that_answers_it(self):
        asked, looks = threading.Event(), []
        q = event_lines([{"type": "question", "id": 1, "title": "Write index.html", "tool": "Write", "arguments": {"a": 1}}])
        self.call([])

        def logs(h, r):
            def chunks():
                yield q[0]
                asked.wait(20)
            h.stream(chunks(), "application/x-ndjson")

        def checkpoints(h, r):
            looks.append(r.query)
            if len(looks) < 3:
                return {"items": [], "next_cursor": None}
            asked.set()
            return {"items": [{"id": "ck1", "state": "open"}], "next_cursor": None}

        self.hub.answers["GET", f"/api/v1/runs/{RUN}/steps/call/logs"] = logs
        self.hub.answers["GET", "/api/v1/checkpoints"] = checkpoints
        r = self.photon("call", "some.tool")
        self.assertEqual((r.returncode, looks[0]["run"]), (0, RUN), r.stderr)
        self.assertEqual(r.stderr.decode().count("photon approve ck1"), 1)
        self.assertEqual(len(looks), 3)

    def test_half_an_event_is_passed_over(self):
        lines = event_lines([{"type": "text", "text": "one"}])
        lines.append(log_line(40, b'{"type":"text","te', "event"))
        r = self.call(lines)
        self.assertEqual((r.returncode, r.stderr), (0, b"one\n"))

    def test_a_narrow_terminal_cuts_lines_but_not_text(self):
        import fcntl
        import pty
        import struct
        import termios
        long = {"type": "tool", "id": "x", "kind": "edit", "title": "\u00fc" * 200, "status": "running"}
        self.call(event_lines([long, {"type": "text", "text": "w" * 200}]))
        for more, colour in (({"TERM": "xterm"}, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False)):
            main, end = pty.openpty()
            fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 30, 0, 0))
            subprocess.run([PHOTON, "call", "some.tool"], env=self.hub.env(**more), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                           stderr=end, timeout=20)
            os.close(end)
            got = os.read(main, 65536)
            os.close(main)
            self.assertEqual(b"\x1b[" in got, colour, got)
            lines = re.sub(r"\x1b\[\d*m", "", got.decode()).splitlines()
            self.assertEqual((len(lines[0]), lines[0][-3:]), (29, "..."), lines)
            self.assertEqual(lines[1], "w" * 200)

    def test_exec_shows_text_once(self):
        ev = {"type": "text", "text": "hello\n"}
        q = {"type": "question", "id": 1, "title": "May it?", "arguments": {}}
        n = len(json.dumps(ev)) + 1
        self.call([])
        self.hub.answers["GET", f"/api/v1/runs/{RUN}/steps/call/logs"] = lambda h, r: h.stream(
            [event_line(0, ev), log_line(n, b"hello\n"), event_line(n + 6, q)], "application/x-ndjson")
        r = self.photon("exec", "-n", "--", "x")
        self.assertEqual((r.returncode, r.stdout), (0, b"hello\n"))
        self.assertEqual(r.stderr.decode().splitlines()[0], "? May it?")
        self.assertIn("all", [q.query.get("channel") for q in self.hub.seen])


class Watching(Submitting):
    def test_steps_side_by_side_are_heard_and_end_after_their_last_word(self):
        go = threading.Event()
        self.submit("succeeded", [[]], steps=[step(id="a"), step(id="b")])

        def events(h, q):
            h.stream([event(1, "run.created"), event(2, "step.started", step="a", agent="x", tool="acp.prompt", attempt=1),
                      event(3, "step.started", step="b", agent="x", tool="acp.prompt", attempt=1),
                      event(4, "step.started", step="c", agent="x", tool="process.exec", attempt=1),
                      event(5, "step.succeeded", step="a", agent="x"), event(6, "run.succeeded")])

        self.hub.answers["GET", f"/api/v1/runs/{RUN}/events"] = events

        def say(name, wait):
            def logs(h, q):
                def chunks():
                    yield event_line(0, {"type": "text", "text": f"I am {name}"}, step_id=name)
                    if wait:
                        go.wait(20)
                    yield event_line(500, {"type": "usage", "input_tokens": 7}, step_id=name)
                    go.set()
                h.stream(chunks(), "application/x-ndjson")
            return logs

        self.hub.answers["GET", f"/api/v1/runs/{RUN}/steps/a/logs"] = say("a", True)
        self.hub.answers["GET", f"/api/v1/runs/{RUN}/steps/b/logs"] = say("b", False)
        r = self.photon("run", "w.yaml")
        lines = r.stdout.decode().splitlines()
        self.assertEqual(r.returncode, 0, r.stderr)
        for want in ("a: I am a", "b: I am b", "a: used: 7 in tokens", "b: used: 7 in tokens"):
            self.assertEqual(lines.count(want), 1, lines)
        self.assertLess(lines.index("a: used: 7 in tokens"), [i for i, x in enumerate(lines) if x.startswith("a: succeeded")][0])
        self.assertFalse([q for q in self.hub.seen if q.path.endswith("/steps/c/logs")])

    def test_the_live_view_writes_events_above_itself(self):
        import pty
        self.submit("succeeded", [[event(1, "run.created", workflow="w"),
                                   event(2, "step.started", step="a", agent="x", tool="acp.prompt", attempt=1), event(3, "run.succeeded")]],
                    steps=[step(id="a")])
        self.hub.answers["GET", f"/api/v1/runs/{RUN}/steps/a/logs"] = lambda h, q: h.stream(
            event_lines([{"type": "text", "text": "one\n\x1b[31mtwo"}, {"type": "log", "level": "info", "message": "three"}], step_id="a"),
            "application/x-ndjson")
        main, end = pty.openpty()
        p = subprocess.Popen([PHOTON, "run", "w.yaml"], cwd=self.hub.dir, env=self.hub.env(TERM="xterm", NO_COLOR="1"), stdin=subprocess.DEVNULL,
                             stdout=end, stderr=subprocess.DEVNULL)
        os.close(end)
        got = b""
        try:
            while True:
                got += os.read(main, 65536)
        except OSError:
            pass
        p.wait(timeout=20)
        os.close(main)
        text = got.decode()
        self.assertEqual(p.returncode, 0)
        for want in ("a: one\r\n", "a: ?[31mtwo\r\n", "a: info: three\r\n"):
            self.assertEqual(text.count(want), 1, repr(text))
        self.assertLess(text.index("a: one"), text.rindex("1 step"))

    def test_json_stays_one_document(self):
        self.submit("succeeded", [[event(1, "step.started", step="a", tool="acp.prompt", attempt=1), event(2, "run.succeeded")]])
        r = self.photon("run", "w.yaml", "-o", "json")
        self.assertEqual(len(r.stdout.splitlines()), 1)
        self.assertFalse([q for q in self.hub.seen if q.path.endswith("/logs")])


class Reading(Case):
    def test_logs_as_json_have_the_events_parsed(self):
        lines = [log_line(0, b"hi\n"), event_line(3, {"type": "text", "text": "hi\n"})]
        self.hub.answers["GET", f"/api/v1/runs/{RUN}/logs"] = lambda h, q: h.stream(lines, "application/x-ndjson")
        for more in ((), ("-f",)):
            r = self.photon("logs", RUN, "-o", "json", *more)
            self.assertEqual(r.returncode, 0, r.stderr)
            self.assertEqual([json.loads(x).get("event") for x in r.stdout.splitlines()], [None, {"type": "text", "text": "hi\n"}])
            self.assertEqual(self.hub.seen[-1].query["channel"], "all")
        r = self.photon("logs", RUN, "-f")
        self.assertEqual(r.stdout, b"hi\n")
        self.assertEqual(self.photon("logs", RUN, "--channel", "event").returncode, 64)
        self.assertEqual(self.photon("logs", RUN, "--channel", "smell").returncode, 64)

    def test_logs_are_the_bytes(self):
        raw = os.urandom(300000)
        self.hub.answers["GET", f"/api/v1/runs/{RUN}/steps/b/logs"] = lambda h, q: h.stream([raw[:1000], raw[1000:]], "application/octet-stream")
        r = self.photon("logs", RUN, "b", "--attempt", "2", "--channel", "stderr")
        self.assertEqual((r.returncode, r.stdout, r.stderr), (0, raw, b""))
        self.assertEqual(self.hub.seen[0].query, {"format": "raw", "attempt": "2", "channel": "stderr"})
        self.assertEqual(self.photon("logs", "nope").returncode, 1)

    def test_followed_logs_write_nothing_twice(self):
        lines = [log_line(0, b"a1 ", step_id="a"), log_line(0, b"b1 ", step_id="b"), log_line(3, b"a2 ", step_id="a"),
                 log_line(0, b"a-again ", step_id="a", attempt=2)]
        n = []

        def serve(h, q):
            n.append(q)
            h.stream(lines[:2] if len(n) == 1 else lines, "application/x-ndjson", broken=len(n) == 1)

        self.hub.answers["GET", f"/api/v1/runs/{RUN}/logs"] = serve
        r = self.photon("logs", RUN, "-f")
        self.assertEqual((r.returncode, r.stdout), (0, b"a1 b1 a2 a-again "), r.stderr)

    def test_a_closed_pipe_ends_it_quietly(self):
        self.hub.answers["GET", f"/api/v1/runs/{RUN}/logs"] = lambda h, q: h.stream([b"x" * 65536] * 200, "application/octet-stream")
        r = subprocess.run(["bash", "-c", f"'{PHOTON}' logs {RUN} | head -c 10; exit ${{PIPESTATUS[0]}}"], env=self.hub.env(), capture_output=True,
                           timeout=30)
        self.assertEqual((r.returncode, r.stdout, r.stderr), (141, b"x" * 10, b""))

    def test_events_as_lines_of_json(self):
        self.hub.answers["GET", "/api/v1/events"] = lambda h, q: h.stream(
            [": still here\n\n", "retry: 2000\n\n"] + [event(i, "run.created") for i in range(1, 9)])
        r = self.photon("events", "-o", "json", "-n", "3")
        self.assertEqual([json.loads(x)["id"] for x in r.stdout.splitlines()], [6, 7, 8])
        self.assertEqual(len(self.photon("events").stdout.splitlines()), 8)
        self.assertEqual(self.hub.seen[0].query, {"follow": "false"})

    def test_events_cut_in_odd_places_are_whole(self):
        text = "".join(event(i, "run.created", note="ü" * 50) for i in range(1, 6)).replace("\n", "\r\n").encode()
        self.hub.answers["GET", "/api/v1/events"] = lambda h, q: h.stream([text[i:i + 7] for i in range(0, len(text), 7)])
        r = self.photon("events", "-o", "json")
        self.assertEqual([json.loads(x)["id"] for x in r.stdout.splitlines()], [1, 2, 3, 4, 5])

    def test_tokens(self):
        self.hub.answers["POST", "/api/v1/join-tokens"] = lambda h, q: {"id": "t1", "token": "pj1.abc", "expires_at": AT % 1}
        r = self.photon("token", "create", "--uses", "3", "--ttl", "90m", "--name", "lab-*", "--label", "a=b", "--label", "c=d,e")
        self.assertEqual((r.returncode, r.stdout), (0, b"pj1.abc\n"))
        self.assertEqual(self.hub.seen[0].json, {"uses": 3, "ttl": "1h30m", "name": "lab-*", "labels": {"a": "b", "c": "d,e"}})
        self.hub.answers["DELETE", "/api/v1/join-tokens/t1"] = lambda h, q: h.reply(204, b"")
        self.assertEqual(self.photon("token", "revoke", "t1").returncode, 0)
        self.assertEqual(json.loads(self.photon("token", "revoke", "t1", "-o", "json").stdout)["state"], "revoked")

    def test_agents(self):
        a = {"name": "a1", "id": "x", "state": "online", "kind": "local", "labels": {"z": "1"}, "tools": ["process.exec"], "version": "1",
             "os": "linux", "arch": "arm64", "last_seen_at": AT % 0, "running": 2}
        self.hub.answers["GET", "/api/v1/agents"] = lambda h, q: {"items": [a], "next_cursor": None}
        self.hub.answers["PATCH", "/api/v1/agents/a1/labels"] = lambda h, q: h.reply(200, a)
        out = self.photon("agents", "-o", "wide").stdout.decode()
        for text in ("a1", "online", "linux/arm64", "z=1", "process.exec"):
            self.assertIn(text, out)
        self.assertEqual(json.loads(self.photon("agent", "list", "-o", "json").stdout), [a])
        self.assertIn('state: "online"', self.photon("agents", "-o", "yaml").stdout.decode())
        self.photon("agent", "label", "a1", "gpu=yes", "old-", "e=")
        self.assertEqual(self.hub.seen[-1].json, {"gpu": "yes", "old": None, "e": ""})

    def test_an_answer_that_is_no_hubs_is_said_so(self):
        self.hub.answers["GET", "/api/v1/agents"] = lambda h, q: h.reply(200, b"<html>hello</html>", "text/html")
        r = self.photon("agents")
        self.assertEqual(r.returncode, 1)
        self.assertIn(b"--hub", r.stderr)
        self.hub.answers["GET", "/api/v1/agents"] = lambda h, q: h.reply(502, b"bad gateway", "text/plain")
        self.assertEqual(self.photon("agents").returncode, 1)
        self.hub.answers["GET", "/api/v1/agents"] = lambda h, q: {"hello": "world"}
        self.assertEqual(self.photon("agents").returncode, 1)

    def test_colours_only_for_a_terminal_that_wants_them(self):
        import pty
        self.hub.answers["GET", "/api/v1/agents"] = lambda h, q: {"items": [{"name": "a1", "state": "online"}], "next_cursor": None}
        self.assertNotIn(b"\x1b", self.photon("agents").stdout)
        for more, colour in (({"TERM": "xterm"}, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)):
            main, end = pty.openpty()
            subprocess.run([PHOTON, "agents"], env=self.hub.env(**more), stdin=subprocess.DEVNULL, stdout=end, timeout=20)
            os.close(end)
            self.assertEqual(b"\x1b[32m" in os.read(main, 65536), colour, more)
            os.close(main)


if __name__ == "__main__":
    unittest.main()
