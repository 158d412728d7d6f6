"""Logging in by an identity provider: the command line by device flow, a browser by authorization code with PKCE,
and every way in which a token of the provider can be wrong."""
import http.client
import json
import os
import re
import ssl
import subprocess
import sys
import unittest
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

from harness import CLI, ROOT, World, clean_env, free_port, wait_for

sys.path.insert(0, str(ROOT / "tests/peers"))
from oidc_provider import Provider  # noqa: E402

ROLES = ("--oidc-role", "groups=ops:default=operator", "--oidc-role", "groups=lead:default=technical-operator",
         "--oidc-role", "groups=root:*=admin")


class Browser:
    """As much of one as a login needs: cookies of the hub, no redirects by itself."""

    def __init__(self, hub):
        u = urlsplit(hub.url)
        self.origin, self.host, self.port, self.ca, self.cookies = hub.url, u.hostname, u.port, hub.ca, {}

    def ask(self, method, path, form=None, headers=None):
        c = http.client.HTTPSConnection(self.host, self.port, timeout=30, context=ssl.create_default_context(cafile=str(self.ca)))
        h = {"Cookie": "; ".join(f"{k}={v}" for k, v in self.cookies.items())} if self.cookies else {}
        if form is not None:
            h.update({"Content-Type": "application/x-www-form-urlencoded", "Origin": self.origin, "Sec-Fetch-Site": "same-origin"})
        h.update(headers or {})
        c.request(method, path, form, {k: v for k, v in h.items() if v is not None})
        r = c.getresponse()
        body = r.read().decode()
        self.set = r.headers.get_all("Set-Cookie") or []
        for one in self.set:
            name, value = one.split(";")[0].split("=", 1)
            if "Max-Age=0" in one:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = value
        c.close()
        return r.status, r.headers.get("Location"), body

    def to_provider(self, url):
        """What the provider's page ends in: the way back to the hub."""
        u = urlsplit(url)
        c = http.client.HTTPConnection(u.hostname, u.port, timeout=30)
        c.request("GET", f"{u.path}?{u.query}")
        r = c.getresponse()
        r.read()
        c.close()
        back = urlsplit(r.headers["Location"])
        return f"{back.path}?{back.query}"

    def login(self, path="/login"):
        status, url, body = self.ask("GET", path)
        assert status == 303, (status, body)
        return self.ask("GET", self.to_provider(url))


class Login(World):
    def setUp(self):
        super().setUp()
        self.provider = Provider()
        self.addCleanup(self.provider.close)

    def login_hub(self, *args, **kw):
        secret = self.dir / "client-secret"
        secret.write_text(self.provider.secret + "\n")
        secret.chmod(0o600)
        return self.hub("--oidc-issuer", self.provider.url, "--oidc-client-id", self.provider.client_id,
                        "--oidc-client-secret-file", str(secret), *ROLES, *args, **kw)

    def begin(self, hub):
        status, doc, _ = self.call(hub, "/login/device", {})
        self.assertEqual(status, 200, doc)
        return doc

    def call(self, hub, path, body):
        c = http.client.HTTPSConnection(*hub.url[8:].split(":"), timeout=30, context=ssl.create_default_context(cafile=str(hub.ca)))
        c.request("POST", "/api/v1" + path, json.dumps(body), {"Content-Type": "application/json"})
        r = c.getresponse()
        doc = json.loads(r.read())
        c.close()
        return r.status, doc, r.headers

    def poll(self, hub, handle):
        """Asked as often as the provider allows, until the answer is another than to wait."""
        def answer():
            status, doc, _ = self.call(hub, "/login/token", {"handle": handle})
            return None if doc.get("code") in ("slow_down", "authorization_pending") else (status, doc)
        return wait_for("the login's end", answer, 30)

    def device(self, hub):
        handle = self.begin(hub)["handle"]
        self.provider.approve()
        return self.poll(hub, handle)

    # ---- device flow ----

    def test_the_command_line_logs_in_and_out(self):
        hub = self.login_hub()
        self.provider.claims["groups"] = ["staff", "ops"]
        env = clean_env(self.dir / "ann")
        p = subprocess.Popen([str(CLI), "login", "--hub", hub.url, "--ca", str(hub.ca)], env=env, stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        lines = [p.stderr.readline() for _ in range(3)]
        self.assertIn(self.provider.url + "/activate", lines[0])
        self.assertIn("WDJB-MJHT", lines[1])
        self.provider.approve()
        out, err = p.communicate(timeout=60)
        self.assertEqual(p.returncode, 0, err)
        self.assertIn("as ann", err)

        def photon(*args):
            return subprocess.run([str(CLI), *args], env=env, capture_output=True, text=True, timeout=60)
        who = json.loads(photon("whoami", "-o", "json").stdout)
        self.assertEqual((who["name"], who["projects"], who["session"]), ("ann", {"default": "operator"}, True))
        self.assertEqual(photon("runs").returncode, 0)
        self.assertEqual(photon("user", "list").returncode, 4)
        token = self.token_of(env)
        self.assertEqual(hub.api("GET", "/whoami", token=token)[0], 200)
        r = photon("logout")
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertIn("ended at the hub", r.stderr)
        self.assertEqual(hub.api("GET", "/whoami", token=token)[0], 401)
        users = hub.api("GET", "/users")[1]["items"]
        self.assertEqual([(u["name"], u["issuer"], u["provider_roles"]) for u in users],
                         [("ann", self.provider.url, {"default": "operator"})])
        actions = [(a["actor"], a["action"]) for a in hub.api("GET", "/audit?limit=100")[1]["items"]]
        self.assertIn(("ann", "user.first_login"), actions)

    def token_of(self, env):
        for path in (self.dir / "ann").rglob("*"):
            if path.is_file() and "pat_" in path.read_text(errors="replace"):
                text = path.read_text()
                at = text.index("pat_")
                return text[at:at + 47]
        self.fail("no token was kept")

    def test_a_login_at_the_provider_that_is_refused_says_so(self):
        hub = self.login_hub()
        for word, code in (("access_denied", "access_denied"), ("expired_token", "login_expired"), ("invalid_grant", "login_refused")):
            handle = self.begin(hub)["handle"]
            self.provider.approve(word)
            status, doc = self.poll(hub, handle)
            self.assertEqual((status, doc["code"]), (403, code))
            self.assertEqual(self.call(hub, "/login/token", {"handle": handle})[1]["code"], "login_expired")

    def test_each_wrong_token_has_its_code(self):
        hub = self.login_hub()
        self.provider.claims["groups"] = ["ops"]
        for wrong, code in (("audience", "token_audience"), ("issuer", "token_issuer"), ("expired", "token_expired"),
                            ("future", "token_not_yet_valid"), ("not-before", "token_not_yet_valid"), ("nobody", "token_claims"),
                            ("none", "token_algorithm"), ("hs256", "token_algorithm"), ("other-alg", "token_algorithm"),
                            ("signature", "token_signature"), ("unknown-key", "token_key_unknown")):
            self.provider.wrong = wrong
            status, doc = self.device(hub)
            self.assertEqual((status, doc["code"]), (403, code), wrong)
        self.assertEqual(hub.api("GET", "/users")[1]["items"], [])
        self.provider.wrong = None
        self.provider.signer = self.provider.keys[1]  # RS256
        status, doc = self.device(hub)
        self.assertEqual(status, 200, doc)
        self.assertEqual(hub.api("GET", "/whoami", token=doc["token"])[1]["name"], "ann")

    def test_a_rotated_key_is_fetched_and_the_old_one_forgotten(self):
        hub = self.login_hub()
        self.provider.claims["groups"] = ["ops"]
        old = self.provider.signer
        self.assertEqual(self.device(hub)[0], 200)
        self.provider.rotate()
        new = self.provider.signer
        wait_for("the new key", lambda: self.device(hub)[0] == 200, 30)
        self.provider.signer = old  # it leaked, and is no longer published
        status, doc = self.device(hub)
        self.assertEqual((status, doc["code"]), (403, "token_key_unknown"))
        self.provider.signer = new
        self.assertEqual(self.device(hub)[0], 200)

    def test_nobody_without_a_role_comes_in_and_roles_follow_the_claims(self):
        hub = self.login_hub()
        status, doc = self.device(hub)
        self.assertEqual((status, doc["code"]), (403, "login_denied"))
        self.assertEqual(hub.api("GET", "/users")[1]["items"], [])
        self.provider.claims["groups"] = ["root"]
        first = self.device(hub)[1]["token"]
        self.assertEqual(hub.api("GET", "/users", token=first)[0], 200)
        self.provider.claims["groups"] = ["ops"]  # an admin no longer: the next login takes it from the first one too
        second = self.device(hub)[1]["token"]
        for token in (first, second):
            wait_for("the lesser role", lambda: hub.api("GET", "/users", token=token)[0] == 403)
        self.assertEqual(hub.api("POST", "/users/ann/disable", {})[0], 200)
        self.assertEqual(hub.api("GET", "/whoami", token=second)[0], 401)
        status, doc = self.device(hub)
        self.assertEqual((status, doc["code"]), (403, "login_denied"))

    def test_two_people_of_one_name_are_two(self):
        hub = self.login_hub()
        self.provider.claims["groups"] = ["ops"]
        self.assertEqual(self.device(hub)[1]["name"], "ann")
        self.provider.claims["sub"] = "another"
        self.assertEqual(self.device(hub)[1]["name"], "ann-2")
        self.provider.claims["sub"], self.provider.claims["preferred_username"] = "third", "admin/../hub\n<b>"
        self.assertNotIn("/", self.device(hub)[1]["name"])
        # Nobody becomes who a service's token is: "admin" is what the first one is called.
        self.provider.claims["sub"], self.provider.claims["preferred_username"] = "fourth", "admin"
        self.assertEqual(self.device(hub)[1]["name"], "admin-2")
        # A user who was made before they come is who the provider's subject says.
        self.assertEqual(hub.cli("user", "create", "zoe", "--subject", "fifth").returncode, 0)
        self.assertEqual(hub.cli("user", "grant", "zoe", "client", "--project", "default").returncode, 0)
        self.provider.claims.update(sub="fifth", preferred_username="somebody", groups=[])
        self.assertEqual(self.device(hub)[1]["name"], "zoe")
        r = hub.cli("user", "create", "zoe2", "--subject", "fifth")
        self.assertIn("is user 'zoe' already", r.stderr)

    def test_whoever_begins_logins_all_day_is_slowed_down(self):
        hub = self.login_hub()
        codes = [self.call(hub, "/login/device", {})[0] for _ in range(55)]
        self.assertEqual(codes[:45], [200] * 45)
        self.assertIn(429, codes)

    def test_the_hub_goes_on_when_the_provider_is_away(self):
        hub = self.login_hub()
        self.provider.claims["groups"] = ["ops"]
        token = self.device(hub)[1]["token"]
        hub.kill9()
        hub.restart()
        self.assertEqual(hub.api("GET", "/whoami", token=token)[0], 200)
        self.provider.discovery["issuer"] = "https://somebody.else"
        status, doc, headers = self.call(hub, "/login/device", {})
        self.assertEqual((status, doc["code"]), (503, "provider_unavailable"))
        self.assertIn("Retry-After", headers)
        self.provider.discovery = {"device_authorization_endpoint": None}
        status, doc, _ = self.call(hub, "/login/device", {})
        self.assertEqual((status, doc["code"]), (501, "device_flow_unsupported"))

    def test_without_a_provider_the_token_is_the_way(self):
        hub = self.hub()
        status, doc, _ = self.call(hub, "/login/device", {})
        self.assertEqual((status, doc["code"]), (404, "login_not_configured"))
        r = subprocess.run([str(CLI), "login", "--hub", hub.url, "--ca", str(hub.ca)], env=clean_env(self.dir / "x"),
                           capture_output=True, text=True, timeout=60)
        self.assertNotEqual(r.returncode, 0)
        self.assertIn("--token", r.stderr)

    # ---- the browser ----

    def test_a_browser_logs_in_sees_who_it_is_and_logs_out(self):
        hub = self.login_hub()
        self.provider.claims["groups"] = ["ops"]
        b = Browser(hub)
        status, where, _ = b.ask("GET", "/")
        self.assertEqual((status, where), (303, "/login?next=/"))
        status, where, body = b.login()
        self.assertEqual((status, where), (303, "/"), body)
        session = next(c for c in b.set if c.startswith("__Host-photon="))
        for word in ("Secure", "HttpOnly", "SameSite=Lax", "Path=/"):
            self.assertIn(word, session)
        status, _, body = b.ask("GET", "/")
        self.assertEqual(status, 200)
        self.assertIn("<b>ann</b>", body)
        # The cookie opens pages, not the API.
        self.assertEqual(b.ask("GET", "/api/v1/whoami")[0], 401)
        self.assertEqual(b.ask("POST", "/logout", "", {"Origin": "https://evil.example"})[0], 403)
        self.assertEqual(b.ask("POST", "/logout", "", {"Origin": None})[0], 403)
        self.assertEqual(b.ask("GET", "/")[0], 200)
        kept = dict(b.cookies)
        self.assertEqual(b.ask("POST", "/logout", "")[0], 200)
        self.assertNotIn("__Host-photon", b.cookies)
        b.cookies = kept
        self.assertEqual(b.ask("GET", "/")[0], 303)

    def test_the_way_back_must_be_the_same_browser_once_and_right(self):
        hub = self.login_hub()
        self.provider.claims["groups"] = ["ops"]
        b, other = Browser(hub), Browser(hub)
        back = b.to_provider(b.ask("GET", "/login")[1])
        status, _, body = other.ask("GET", back)
        self.assertEqual((status, json.loads(body)["code"]), (403, "login_state"))
        kept = dict(b.cookies)
        self.assertEqual(b.ask("GET", back)[0], 303)
        b.cookies = kept
        status, _, body = b.ask("GET", back)
        self.assertEqual((status, json.loads(body)["code"]), (403, "login_expired"))
        for wrong, code in (("nonce", "token_nonce"), ("audience", "token_audience"), ("refused", "access_denied")):
            self.provider.wrong = wrong
            status, _, body = Browser(hub).login()
            self.assertEqual((status, json.loads(body)["code"]), (403, code), wrong)
        self.provider.wrong = None
        # What follows a login is a page of this hub, whatever was asked for.
        for path in ("/login?next=https://evil.example", "/login?next=//evil.example", "/login?next=/approve/../../x"):
            self.assertEqual(Browser(hub).login(path)[1], "/")
        b = Browser(hub)
        url = b.ask("GET", "/login")[1]
        q = parse_qs(urlsplit(url).query)
        self.assertEqual(q["code_challenge_method"], ["S256"])
        self.assertGreaterEqual(len(q["state"][0]), 43)
        self.assertNotIn("code_verifier", q)

    def test_an_approve_link_needs_a_login_and_decides(self):
        hub = self.login_hub()
        self.agent(hub, "a1")
        self.provider.claims["groups"] = ["lead"]
        run = hub.submit("steps:\n  - id: ask\n    approval: {question: 'Ship it? <script>alert(1)</script>'}\n")
        c = wait_for("the question", lambda: hub.api("GET", "/checkpoints")[1]["items"])[0]
        b = Browser(hub)
        status, where, _ = b.ask("GET", f"/approve/{c['id']}")
        self.assertEqual((status, where), (303, f"/login?next=/approve/{c['id']}"))
        self.assertEqual(b.login(where)[1], f"/approve/{c['id']}")
        status, _, page = b.ask("GET", f"/approve/{c['id']}")
        self.assertEqual(status, 200)
        self.assertIn("Ship it? &lt;script&gt;", page)
        self.assertNotIn("<script", page)
        self.assertIn(c["sha256"], page)
        path, good = f"/approve/{c['id']}", f"decision=approve&sha256={c['sha256']}&reason=looks+right%21"
        self.assertEqual(b.ask("POST", path, good, {"Origin": "https://evil.example"})[0], 403)
        self.assertEqual(b.ask("POST", path, good, {"Sec-Fetch-Site": "cross-site"})[0], 403)
        self.assertEqual(b.ask("POST", path, good.replace("approve", "maybe"))[0], 400)
        self.assertEqual(b.ask("POST", path, f"decision=approve&sha256={'0' * 64}")[0], 409)
        status, where, body = b.ask("POST", path, good)
        self.assertEqual((status, where), (303, path), body)
        self.assertEqual(hub.wait_run(run)["state"], "succeeded")
        doc = hub.api("GET", f"/checkpoints/{c['id']}")[1]
        self.assertEqual((doc["state"], doc["decided_by"], doc["reason"]), ("approved", "ann", "looks right!"))
        self.assertEqual(b.ask("POST", path, good)[0], 409)
        # An operator sees the question and may not answer it.
        self.provider.claims.update(groups=["ops"], sub="bob", preferred_username="bob")
        o = Browser(hub)
        o.login()
        self.assertEqual(o.ask("GET", path)[0], 200)
        status, _, body = o.ask("POST", path, good)
        self.assertEqual(status, 403)
        self.assertIn("checkpoints.decide", body)


def walk(url, cookies, form=None, steps=20):
    """A browser at the provider: redirects and cookies, until it is sent to somewhere else than there."""
    there = urlsplit(url).netloc
    while steps:
        steps -= 1
        u = urlsplit(url)
        if u.netloc != there:
            return url, ""
        c = http.client.HTTPConnection(u.hostname, u.port, timeout=30)
        h = {"Cookie": "; ".join(f"{k}={v}" for k, v in cookies.items())}
        if form is not None:
            h["Content-Type"] = "application/x-www-form-urlencoded"
        c.request("GET" if form is None else "POST", u.path + ("?" + u.query if u.query else ""), form, h)
        r = c.getresponse()
        body = r.read().decode()
        for one in r.headers.get_all("Set-Cookie") or []:
            k, v = one.split(";")[0].split("=", 1)
            cookies[k] = v
        c.close()
        if r.status not in (302, 303):
            return url, body
        url, form = urljoin(url, r.headers["Location"]), None
    raise AssertionError("the provider sends in circles")


def installed():
    r = subprocess.run([str(ROOT / "tests/peers/oidc/install.sh")], capture_output=True, text=True, timeout=300)
    sys.stderr.write(r.stderr)
    return r.stdout.strip()


class RealProvider(World):
    """The same against oidc-provider from npm, which many run and others are measured with."""

    def start(self, alg):
        folder = installed()
        if not folder:
            self.skipTest("oidc-provider is not installed: run tests/peers/oidc/install.sh where npm works")
        port = free_port()
        (self.dir / "secret").write_text("a-secret/with+odd=signs")
        hub = self.hub("--oidc-issuer", f"http://127.0.0.1:{port}", "--oidc-client-id", "photon hub",
                       "--oidc-client-secret-file", str(self.dir / "secret"), *ROLES)
        p = subprocess.Popen(["node", str(ROOT / "tests/peers/oidc/provider.mjs"), folder, str(port), "photon hub",
                              "a-secret/with+odd=signs", hub.url + "/callback", alg], stdout=subprocess.PIPE, text=True,
                             stderr=subprocess.DEVNULL, env={"PATH": os.environ["PATH"], "HOME": str(self.dir)})
        self.addCleanup(lambda: (p.kill(), p.wait(), p.stdout.close()))
        self.assertEqual(p.stdout.readline().strip(), "ready")
        return hub

    def code_with_pkce(self, alg):
        hub = self.start(alg)
        b = Browser(hub)
        back, _ = walk(b.ask("GET", "/login")[1], {})
        self.assertTrue(back.startswith(hub.url + "/callback?"), back)
        status, where, body = b.ask("GET", back[len(hub.url):])
        self.assertEqual((status, where), (303, "/"), body)
        self.assertIn("<b>ann</b>", b.ask("GET", "/")[2])

    def test_code_with_pkce_signed_rs256(self):
        self.code_with_pkce("RS256")

    def test_code_with_pkce_signed_es256(self):
        self.code_with_pkce("ES256")

    def test_device_flow(self):
        hub = self.start("ES256")
        env = clean_env(self.dir / "ann")
        p = subprocess.Popen([str(CLI), "login", "--hub", hub.url, "--ca", str(hub.ca)], env=env, stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        lines = [p.stderr.readline() for _ in range(3)]
        whole = lines[2].split()[-1]
        cookies = {}
        # The page asks whether it is you who has this code, then who you are, then it is done.
        url, page = walk(whole, cookies)
        fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page))
        self.assertIn("xsrf", fields, page)
        action = re.search(r'action="([^"]+)"', page).group(1)
        walk(urljoin(url, action), cookies, urlencode({**fields, "confirm": "yes"}))
        out, err = p.communicate(timeout=90)
        self.assertEqual(p.returncode, 0, err)
        self.assertIn("as ann", err)


if __name__ == "__main__":
    unittest.main()
