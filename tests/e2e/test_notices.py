"""People are told of questions: real hub, receivers of our own that check what a receiver should."""
import base64
import email
import email.policy
import json
import os
import queue
import shutil
import ssl
import subprocess
import sys
import threading
import unittest
import urllib.request
from pathlib import Path

from harness import HUB, World, clean_env, wait_for

PEERS = Path(__file__).resolve().parent.parent / "peers"
sys.path.insert(0, str(PEERS))
from sinks import MailSink, Verifier, WebhookSink, free_port  # noqa: E402

KEY = "whsec_" + base64.b64encode(b"a key for the tests, 32 bytes ok").decode()
ASK = {"name": "gate", "steps": [{"id": "ask", "approval": {"question": "Ship 1.2 to <production> & call?", "users": ["ann"]}}]}


class Notices(World):
    def sink(self, *a, cls=WebhookSink, **kw):
        s = cls(*a, **kw)
        self.addCleanup(s.close)
        return s

    def secret(self, name, text, mode=0o600):
        p = self.dir / name
        p.write_text(text)
        os.chmod(p, mode)
        return str(p)

    def hub_with(self, targets, *args, **more):
        conf = self.dir / "hub.yaml"
        conf.write_text(json.dumps({"notices": {"targets": targets, **more}}))
        return self.hub("--config", str(conf), *args)

    def hook(self, url, **more):
        return {"type": "webhook", "url": url, "secret-file": self.secret("hook.key", KEY), **more}

    def ask(self, hub, workflow=ASK):
        status, run = hub.api("POST", "/runs", {"workflow": workflow})
        self.assertEqual(status, 201, run)
        cp = wait_for("the question", lambda: hub.api("GET", f"/checkpoints?run={run['id']}")[1]["items"])[0]
        return run["id"], cp["id"]

    def notices(self, hub, state="all"):
        status, doc = hub.api("GET", f"/notices?state={state}")
        self.assertEqual(status, 200, doc)
        return doc["items"]

    def all_done(self, hub):
        return wait_for("every notice settled", lambda: not self.notices(hub, "pending") and self.notices(hub))

    def test_a_webhook_is_signed_and_a_replay_is_refused(self):
        sink = self.sink()
        hub = self.hub_with({"ops": self.hook(sink.url)}, url="https://hub.example.org:7443/")
        run, cp = self.ask(hub)
        got, = sink.wait(1)
        check = Verifier(KEY)
        self.assertIsNone(check.check(got["headers"], got["body"]))
        self.assertEqual(check.check(got["headers"], got["body"]), "it was here already")
        self.assertEqual(Verifier(KEY).check(got["headers"], got["body"], got["at"] + 301), "it is too old, or from the future")
        self.assertEqual(Verifier(KEY).check(got["headers"], got["body"] + b" "), "the signature is wrong")
        self.assertEqual(Verifier(KEY).check({**got["headers"], "webhook-timestamp": str(int(got["at"]) + 9)}, got["body"]), "the signature is wrong")
        self.assertEqual(Verifier("another key, long enough for it").check(got["headers"], got["body"]), "the signature is wrong")
        doc = json.loads(got["body"])
        self.assertEqual(doc["type"], "checkpoint.open")
        self.assertEqual((doc["data"]["checkpoint"], doc["data"]["run"], doc["data"]["users"]), (cp, run, ["ann"]))
        # The link shows; it does not approve, and wants a login.
        self.assertEqual(doc["data"]["url"], f"https://hub.example.org:7443/approve/{cp}")
        self.assertEqual(hub.api("GET", f"/checkpoints/{cp}", token="")[0], 401)
        self.assertEqual(hub.api("GET", f"/checkpoints/{cp}/approve")[0], 405)
        done, = self.all_done(hub)
        self.assertEqual((done["state"], done["attempts"], done["id"]), ("delivered", 1, got["headers"]["webhook-id"]))
        self.assertNotIn(KEY, "".join(p.read_text(errors="replace") for p in self.dir.glob("*.log")))

    def test_the_audits_head_is_kept_outside(self):
        heads, questions = self.sink(), self.sink()
        hub = self.hub_with({"keep": self.hook(heads.url, events=["audit.head"]), "ops": self.hook(questions.url)},
                            **{"audit-head-every": "1s"})
        doc = json.loads(heads.wait(1)[0]["body"])
        self.assertEqual(doc["type"], "audit.head")
        self.ask(hub)
        self.assertEqual(json.loads(questions.wait(1)[0]["body"])["type"], "checkpoint.open")  # and no head
        newer = json.loads(heads.wait(2)[1]["body"])["data"]
        self.assertGreater(newer["seq"], doc["data"]["seq"])
        _, record = hub.api("GET", f"/audit?limit=1&cursor={newer['seq'] + 1}")
        self.assertEqual((record["items"][0]["seq"], record["items"][0]["hash"]), (newer["seq"], newer["hash"]))

    def test_what_fails_is_tried_again_with_the_same_id(self):
        sink = self.sink([(500, {}), (429, {"Retry-After": "2"}), "drop"])
        hub = self.hub_with({"ops": self.hook(sink.url)})
        self.ask(hub)
        got = sink.wait(4)
        self.assertEqual(len({g["headers"]["webhook-id"] for g in got}), 1)
        self.assertGreaterEqual(got[2]["at"] - got[1]["at"], 2)
        for g in got:
            self.assertIsNone(Verifier(KEY).check(g["headers"], g["body"], g["at"]))
        done, = self.all_done(hub)
        # A connection that broke off before any answer may have been tried again below the hub.
        self.assertEqual(done["state"], "delivered")
        self.assertIn(done["attempts"], (3, 4))

    def test_killed_after_the_commit_it_is_sent_by_the_next_life(self):
        port = free_port()
        hub = self.hub_with({"ops": self.hook(f"http://127.0.0.1:{port}/hook")})
        _, cp = self.ask(hub)  # on disk; nobody listens yet
        hub.kill9()
        sink = self.sink(port=port)
        hub.start()
        got, = sink.wait(1)
        self.assertEqual(json.loads(got["body"])["data"]["checkpoint"], cp)
        self.assertEqual([n["state"] for n in self.all_done(hub)], ["delivered"])
        hub.kill9()
        hub.start()
        self.ask(hub)
        again = sink.wait(2)
        self.assertNotEqual(again[0]["headers"]["webhook-id"], again[1]["headers"]["webhook-id"])

    def test_one_that_hangs_holds_up_no_other_and_not_the_hub(self):
        slow, quick = self.sink(["hang"] * 20), self.sink()
        hub = self.hub_with({"slow": self.hook(slow.url), "quick": self.hook(quick.url)})
        for _ in range(5):
            self.ask(hub)
        self.assertEqual(len(quick.wait(5)), 5)
        slow.wait(2)
        self.assertEqual(len(slow.got), 2)  # the others wait for those
        self.assertEqual(hub.api("GET", "/runs")[0], 200)
        self.assertLessEqual(hub.proc.stop(), 0)

    def test_given_up_is_an_event_and_a_person_can_try_again(self):
        sink = self.sink([(503, {})] * 3)
        hub = self.hub_with({"ops": self.hook(sink.url)}, **{"give-up-after": "2s"})
        _, cp = self.ask(hub)
        lost = wait_for("it is given up", lambda: [n for n in self.notices(hub) if n["state"] == "given_up"])[0]
        self.assertIn("503", lost["last_error"])
        events = [json.loads(x) for x in hub.cli("events", "-o", "json", "--after", "0").stdout.splitlines() if x.startswith("{")]
        self.assertIn(("notice.given_up", cp), [(e["type"], e.get("checkpoint")) for e in events])
        self.assertIn("photon_notices_given_up_total 1", self.metrics(hub))
        self.assertIn(lost["id"], hub.cli("notices", "--all").stdout)
        del sink.answers[:]
        r = hub.cli("notice", "retry", lost["id"])
        self.assertEqual(r.returncode, 0, r.stderr)
        wait_for("it is delivered", lambda: self.notices(hub)[0]["state"] == "delivered")
        self.assertEqual(hub.cli("notice", "retry", lost["id"]).returncode, 1)
        client = hub.cli("api-token", "create", "--name", "c", "--role", "operator").stdout.strip()
        self.assertEqual(hub.api("GET", "/notices", token=client)[0], 403)

    def metrics(self, hub):
        ctx = ssl.create_default_context(cafile=str(hub.ca))
        req = urllib.request.Request(hub.url + "/metrics", headers={"Authorization": f"Bearer {hub.token}"})
        return urllib.request.urlopen(req, context=ctx, timeout=20).read().decode()

    def test_a_chat_and_a_mail_say_the_same_and_nothing_of_theirs(self):
        chat, mail = self.sink(), self.sink(cls=MailSink, fail=1, auth=("hub", "sesame-open"))
        hub = self.hub_with({
            "chat": {"type": "slack", "url-file": self.secret("chat.url", chat.url + "/T0/secret")},
            "mail": {"type": "smtp", "url": mail.url, "starttls": False, "from": "hub@example.org", "to": ["ann@example.org", "bob@example.org"],
                     "user": "hub", "password-file": self.secret("mail.pw", "sesame-open\n")}})
        question = "Ship <it> & tell <!channel>?\r\nBcc: eve@example.org\n\u00fcber " + "x" * 400
        _, cp = self.ask(hub, {"name": "w", "steps": [{"id": "a", "approval": question}]})
        said = json.loads(chat.wait(1)[0]["body"])["text"]
        self.assertIn("Ship &lt;it&gt; &amp; tell &lt;!channel&gt;?", said)
        self.assertIn(f"photon checkpoint show {cp}", said)
        self.assertEqual(chat.got[0]["path"], "/hook/T0/secret")
        m, = mail.wait(1)
        self.assertEqual(m["login"], ["hub", "sesame-open"])
        self.assertEqual([t.split("<")[1].split(">")[0] for t in m["to"]], ["ann@example.org", "bob@example.org"])
        parsed = email.message_from_bytes(m["data"], policy=email.policy.default)
        self.assertIsNone(parsed["Bcc"])
        self.assertTrue(parsed["Subject"].startswith("[PHOTON] Approval wanted: Ship <it> & tell"), parsed["Subject"])
        self.assertIn(f"photon checkpoint show {cp}", parsed.get_content())
        self.assertIn("\u00fcber", parsed.get_content())
        self.assertTrue(all(len(line) <= 78 for line in m["data"].split(b"\r\n")))
        done = self.all_done(hub)
        self.assertEqual({(n["target"], n["attempts"]) for n in done}, {("chat", 1), ("mail", 2)})
        text = json.dumps(done) + "".join(p.read_text(errors="replace") for p in self.dir.glob("*.log"))
        self.assertNotIn("sesame-open", text)
        self.assertNotIn("T0/secret", text)

    def certificate(self):
        cert, key = self.dir / "tls.pem", self.dir / "tls.key"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(key), "-out", str(cert),
                        "-days", "2", "-subj", "/CN=sink", "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
        return str(cert), str(key)

    def test_real_receivers_take_them_over_tls(self):
        folder = subprocess.run([str(PEERS / "notices" / "install.sh")], capture_output=True, text=True, timeout=300).stdout.strip()
        node = shutil.which("node")
        if not folder or not node:
            self.skipTest("smtp-server and standardwebhooks are not installed: run tests/peers/notices/install.sh where npm works")
        cert, key = self.certificate()
        p = subprocess.Popen([node, str(PEERS / "notices" / "receivers.mjs"), folder, cert, key, KEY, "hub", "sesame-open"], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True, env=clean_env(self.dir))
        self.addCleanup(lambda: (p.stdin.close(), p.wait(20), p.stdout.close()))
        lines = queue.Queue()
        threading.Thread(target=lambda: [lines.put(json.loads(x)) for x in p.stdout], daemon=True).start()
        ports = lines.get(timeout=60)
        hook = self.hook(f"https://127.0.0.1:{ports['hookPort']}/")
        hub = self.hub_with({
            "ops": {**hook, "ca-file": cert}, "nobody": hook,  # the second one knows no such authority
            "mail": {"type": "smtp", "url": f"smtp://127.0.0.1:{ports['mailPort']}", "from": "hub@example.org", "to": ["ann@example.org"], "user": "hub",
                     "password-file": self.secret("mail.pw", "sesame-open"), "ca-file": cert}})
        _, cp = self.ask(hub)
        heard = {}
        while len(heard) < 2:
            doc = lines.get(timeout=60)
            heard["mail" if "mail" in doc else "hook"] = doc
        self.assertTrue(heard["hook"]["verified"], heard["hook"]["why"])
        self.assertEqual(json.loads(heard["hook"]["hook"])["data"]["checkpoint"], cp)
        self.assertTrue(heard["mail"]["secure"])
        self.assertEqual(heard["mail"]["to"], ["ann@example.org"])
        parsed = email.message_from_string(heard["mail"]["mail"], policy=email.policy.default)
        self.assertIn(cp, parsed.get_content())
        states = wait_for("two of them delivered", lambda: (lambda s: s if list(s.values()).count("delivered") == 2 else None)(
            {n["target"]: n["state"] for n in self.notices(hub)}))
        self.assertEqual(states, {"ops": "delivered", "mail": "delivered", "nobody": "pending"})
        self.assertIn("certificate", [n for n in self.notices(hub) if n["target"] == "nobody"][0]["last_error"])

    def test_filters_say_who_is_told_of_what(self):
        sink = self.sink()
        targets = {name: self.hook(f"{sink.url}/{name}", **f) for name, f in {
            "all": {}, "budgets": {"kinds": ["budget"]}, "shop": {"projects": ["shop"]}, "admins": {"roles": ["admin"]}, "ann": {"users": ["ann"]},
            "bob": {"users": ["bob"]}}.items()}
        hub = self.hub_with(targets)
        ann = hub.cli("api-token", "create", "--name", "ann", "--role", "technical-operator").stdout.strip()
        hub.cli("api-token", "create", "--name", "bob", "--role", "technical-operator")
        _, cp = self.ask(hub)
        sink.wait(2)
        self.assertEqual(hub.api("POST", f"/checkpoints/{cp}/delegate", {"to": "bob"}, token=ann)[0], 200)
        sink.wait(4)
        self.ask(hub, {"name": "w", "steps": [{"id": "a", "approval": "Anybody?"}]})
        sink.wait(6)
        self.all_done(hub)
        got = sorted((g["path"].rsplit("/", 1)[1], json.loads(g["body"])["type"]) for g in sink.got)
        self.assertEqual(got, sorted([("all", "checkpoint.open"), ("ann", "checkpoint.open"), ("all", "checkpoint.delegated"),
                                      ("bob", "checkpoint.delegated"), ("all", "checkpoint.open"), ("admins", "checkpoint.open")]))

    def test_a_target_that_is_taken_away_is_given_up_at_the_next_start(self):
        hub = self.hub_with({"ops": self.hook(f"http://127.0.0.1:{free_port()}/")})
        self.ask(hub)
        hub.kill9()
        (self.dir / "hub.yaml").write_text(json.dumps({"notices": {"targets": {}}}))
        hub.start()
        n, = self.notices(hub)
        self.assertEqual((n["state"], n["last_error"]), ("given_up", "its target is not configured any more"))

    def test_a_configuration_that_does_not_hold_is_refused_with_its_place(self):
        ok = {"type": "webhook", "url": "https://x.example", "secret-file": self.secret("ok.key", KEY)}
        for change, word in (({"url": "http://x.example"}, "https://"), ({"url": "ftp://x"}, "https://"), ({"url": "http://127.0.0.1:1@evil/"}, "https://"),
                             ({"url": "http://127.0.0.1.evil/"}, "https://"), ({"type": "hook"}, "webhook, slack or smtp"), ({"extra": 1}, "unknown key"),
                             ({"secret-file": self.secret("short.key", "short")}, "24 to 256"), ({"secret-file": self.secret("open.key", KEY, 0o644)}, "others may read"),
                             ({"secret-file": "/nonexistent"}, "No such file"), ({"to": ["a@b"]}, "go with the type smtp"), ({"kinds": "approval"}, "list of"),
                             ({"type": "smtp", "url": "smtps://x"}, "webhook"), ({"secret-file": None}, "name of a file")):
            conf = self.dir / "bad.yaml"
            conf.write_text(json.dumps({"notices": {"targets": {"t": {**ok, **change}}}}))
            p = subprocess.run([str(HUB), "serve", "--data", str(self.dir / "bad"), "--config", str(conf), "--agent-listen", "127.0.0.1:0", "--api-listen",
                                "127.0.0.1:0"], env=clean_env(self.dir), capture_output=True, text=True, timeout=20)
            self.assertNotEqual(p.returncode, 0, change)
            self.assertIn(word, p.stderr, change)
            self.assertRegex(p.stderr, r"bad\.yaml:1:\d+", change)


if __name__ == "__main__":
    unittest.main()
