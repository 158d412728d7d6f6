"""An identity provider for tests: OpenID Connect discovery, keys, authorization code with PKCE, device flow. It
signs RS256 and ES256 with keys of openssl's, and, told to, tokens that are wrong in one way each.

    p = Provider(client_id="photon", secret="s3cret"); p.url; p.claims.update(groups=["ops"]); p.wrong = "audience"
"""
import base64
import hashlib
import hmac
import json
import secrets
import subprocess
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit


def b64(data):
    return base64.urlsafe_b64encode(data if isinstance(data, bytes) else data.encode()).rstrip(b"=").decode()


def number(n, size):
    return b64(n.to_bytes(size, "big"))


class Key:
    """One of the provider's: made by openssl, which also signs with it."""

    def __init__(self, folder, kid, alg):
        self.kid, self.alg, self.path = kid, alg, Path(folder) / f"{kid}.pem"
        args = (["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"] if alg == "RS256"
                else ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"])
        subprocess.run(["openssl", "genpkey", *args, "-out", str(self.path)], check=True, capture_output=True)
        der = subprocess.run(["openssl", "pkey", "-in", str(self.path), "-pubout", "-outform", "DER"], check=True,
                             capture_output=True).stdout
        if alg == "ES256":
            x, y = der[-64:-32], der[-32:]
            self.jwk = {"kty": "EC", "crv": "P-256", "x": b64(x), "y": b64(y)}
        else:
            text = subprocess.run(["openssl", "rsa", "-in", str(self.path), "-noout", "-modulus"], check=True,
                                  capture_output=True, text=True).stdout
            self.jwk = {"kty": "RSA", "n": number(int(text.strip().split("=")[1], 16), 256), "e": "AQAB"}
        self.jwk.update(kid=kid, use="sig", alg=alg)

    def sign(self, data):
        der = subprocess.run(["openssl", "dgst", "-sha256", "-sign", str(self.path)], input=data, check=True,
                             capture_output=True).stdout
        if self.alg == "RS256":
            return der
        # SEQUENCE of two INTEGERs -> both as 32 bytes.
        at, out = 2, b""
        for _ in range(2):
            n = der[at + 1]
            out += int.from_bytes(der[at + 2:at + 2 + n], "big").to_bytes(32, "big")
            at += 2 + n
        return out


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def reply(self, status, doc, headers=()):
        data = json.dumps(doc).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        for k, v in headers:
            self.send_header(k, v)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        p, u = self.server.provider, urlsplit(self.path)
        p.seen.append(("GET", u.path))
        if u.path == "/.well-known/openid-configuration":
            doc = {"issuer": p.url, "authorization_endpoint": p.url + "/auth", "token_endpoint": p.url + "/token",
                   "jwks_uri": p.url + "/jwks", "device_authorization_endpoint": p.url + "/device"}
            doc.update(p.discovery)
            return self.reply(200, {k: v for k, v in doc.items() if v is not None})
        if u.path == "/jwks":
            return self.reply(200, {"keys": [k.jwk for k in p.keys if k in p.published]})
        if u.path == "/auth":
            return self.authorize(dict(parse_qsl(u.query)))
        self.reply(404, {"error": "not_found"})

    def authorize(self, q):
        """Whoever comes is somebody, at once."""
        p = self.server.provider
        assert q["response_type"] == "code" and q["client_id"] == p.client_id and q["code_challenge_method"] == "S256", q
        back = {"state": q["state"], "iss": p.url}
        if p.wrong == "refused":
            back["error"] = "access_denied"
        else:
            back["code"] = secrets.token_urlsafe(16)
            p.codes[back["code"]] = q
        self.send_response(302)
        self.send_header("Location", f"{q['redirect_uri']}?{urlencode(back)}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def client_ok(self, form):
        p, a = self.server.provider, self.headers.get("Authorization") or ""
        if not p.secret:
            return form.get("client_id") == p.client_id
        want = base64.b64encode(f"{quote(p.client_id, safe='')}:{quote(p.secret, safe='')}".encode()).decode()
        return hmac.compare_digest(a, "Basic " + want)

    def do_POST(self):
        p, u = self.server.provider, urlsplit(self.path)
        form = dict(parse_qsl(self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()))
        p.seen.append(("POST", u.path))
        if not self.client_ok(form):
            return self.reply(401, {"error": "invalid_client"})
        if u.path == "/device":
            code = secrets.token_urlsafe(16)
            p.devices[code] = "authorization_pending"
            return self.reply(200, {"device_code": code, "user_code": "WDJB-MJHT", "verification_uri": p.url + "/activate",
                                    "verification_uri_complete": p.url + "/activate?c=WDJB-MJHT", "expires_in": 300, "interval": 1})
        if u.path == "/token" and form.get("grant_type") == "urn:ietf:params:oauth:grant-type:device_code":
            state = p.devices.get(form.get("device_code"), "expired_token")
            return self.reply(400, {"error": state}) if state != "approved" else self.reply(200, {"id_token": p.id_token(None)})
        if u.path == "/token" and form.get("grant_type") == "authorization_code":
            q = p.codes.pop(form.get("code"), None)
            if (not q or q["redirect_uri"] != form.get("redirect_uri") or
                    b64(hashlib.sha256(form.get("code_verifier", "").encode()).digest()) != q["code_challenge"]):
                return self.reply(400, {"error": "invalid_grant"})
            return self.reply(200, {"id_token": p.id_token(q["nonce"]), "access_token": "x", "token_type": "Bearer"})
        self.reply(400, {"error": "unsupported_grant_type"})


class Provider:
    def __init__(self, client_id="photon", secret="s3cr:et/ü"):
        self.client_id, self.secret = client_id, secret
        self.folder = tempfile.TemporaryDirectory(prefix="photon-oidc-")
        self.keys = [Key(self.folder.name, "es-1", "ES256"), Key(self.folder.name, "rs-1", "RS256")]
        self.published = list(self.keys)
        self.signer = self.keys[0]
        self.claims = {"sub": "248289761001", "preferred_username": "ann", "email": "ann@example.org", "email_verified": True}
        self.wrong, self.discovery, self.codes, self.devices, self.seen = None, {}, {}, {}, []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.provider = self
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.folder.cleanup()

    def approve(self, word="approved"):
        for code in self.devices:
            self.devices[code] = word

    def rotate(self, alg="ES256"):
        """A new key signs from now on; the old ones are gone."""
        k = Key(self.folder.name, f"new-{len(self.keys)}", alg)
        self.keys.append(k)
        self.published, self.signer = [k], k

    def id_token(self, nonce):
        now = int(time.time())
        claims = {"iss": self.url, "aud": self.client_id, "iat": now, "exp": now + 300, **self.claims}
        if nonce is not None:
            claims["nonce"] = nonce
        header = {"alg": self.signer.alg, "kid": self.signer.kid, "typ": "JWT"}
        w = self.wrong
        claims.update({"audience": {"aud": "another-program"}, "issuer": {"iss": "https://id.example"},
                       "expired": {"iat": now - 4000, "exp": now - 3600}, "future": {"iat": now + 3600, "exp": now + 7200},
                       "not-before": {"nbf": now + 3600}, "nonce": {"nonce": "of-another-login"},
                       "nobody": {"sub": ""}}.get(w, {}))
        header.update({"none": {"alg": "none"}, "hs256": {"alg": "HS256"}, "other-alg": {"alg": "RS256"},
                       "unknown-key": {"kid": "never-seen"}}.get(w, {}))
        data = f"{b64(json.dumps(header))}.{b64(json.dumps(claims))}".encode()
        if w == "hs256":
            sig = hmac.new(json.dumps(self.signer.jwk).encode(), data, hashlib.sha256).digest()
        elif w == "none":
            sig = b"x"
        else:
            sig = self.signer.sign(data)
        if w == "signature":
            sig = bytes([sig[0] ^ 1]) + sig[1:]
        return data.decode() + "." + b64(sig)
