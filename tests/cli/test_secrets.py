"""photon secret, photon vault: values come from a pipe, a file or a prompt that does not show them, and are never
printed."""
import base64
import os
import pty
import subprocess
import unittest

from fakehub import PHOTON, FakeHub

VALUE = "value-that-nobody-sees"
VAULT = {"state": "locked", "why": "it waits", "key": "passphrase", "master": "ab", "data_key": 3, "data_key_uses": 4, "data_keys": 1,
         "resealing": False, "secrets": 2}


class Secrets(unittest.TestCase):
    def setUp(self):
        self.hub = FakeHub()
        self.addCleanup(self.hub.close)
        made = lambda h, q: h.reply(200, {"name": "TOKEN", "project": "default", "version": 2})
        self.hub.answers["PUT", "/api/v1/secrets/TOKEN"] = made
        self.hub.answers["POST", "/api/v1/secrets/TOKEN/rotate"] = made
        self.hub.answers["GET", "/api/v1/vault"] = lambda h, q: VAULT
        for what in ("unlock", "lock", "rotate"):
            self.hub.answers["POST", f"/api/v1/vault/{what}"] = lambda h, q: h.reply(200, dict(VAULT, state="open", why=""))

    def sent(self):
        return base64.b64decode(self.hub.seen[-1].json["value_base64"])

    def at_a_terminal(self, lines, *args):
        """What a person types, and all that the terminal showed."""
        main, end = pty.openpty()
        p = subprocess.Popen([PHOTON, *args], stdin=end, stdout=end, stderr=end, env=self.hub.env(), start_new_session=True)
        os.close(end)
        shown = b""
        for line in lines:
            asked = b""
            while not asked.endswith(b": "):
                asked += os.read(main, 1024)
            shown += asked
            os.write(main, line.encode() + b"\n")
        try:
            while chunk := os.read(main, 1024):
                shown += chunk
        except OSError:
            pass  # the other end is closed
        os.close(main)
        return p.wait(timeout=20), shown.decode()

    def test_a_pipe_gives_all_but_the_last_newline(self):
        for given, want in ((b"abc def", b"abc def"), (b"abc\n", b"abc"), (b"abc\n\n", b"abc\n"), (b"a\0b\xff", b"a\0b\xff")):
            r = self.hub.run("secret", "set", "TOKEN", stdin=given)
            self.assertEqual((r.returncode, r.stdout), (0, b""), r)
            self.assertEqual(self.sent(), want)
            self.assertIn(b"version 2", r.stderr)

    def test_a_file_is_taken_byte_for_byte(self):
        path = self.hub.dir / "key.pem"
        path.write_bytes(b"-----\nkey\n-----\n")
        r = self.hub.run("secret", "rotate", "TOKEN", "--from-file", path, "--keep", "3")
        self.assertEqual(r.returncode, 0, r)
        self.assertEqual((self.sent(), self.hub.seen[-1].json["keep"]), (path.read_bytes(), 3))
        self.assertEqual(self.hub.run("secret", "set", "TOKEN", "--from-file", "nowhere").returncode, 1)
        path.write_bytes(b"x" * 65537)
        self.assertEqual(self.hub.run("secret", "set", "TOKEN", "--from-file", path).returncode, 1)

    def test_a_prompt_does_not_show_it_and_asks_twice(self):
        rc, shown = self.at_a_terminal([VALUE, VALUE], "secret", "set", "TOKEN")
        self.assertEqual((rc, self.sent()), (0, VALUE.encode()), shown)
        self.assertNotIn(VALUE, shown)
        n = len(self.hub.seen)
        rc, shown = self.at_a_terminal([VALUE, "another"], "secret", "set", "TOKEN")
        self.assertEqual((rc, len(self.hub.seen)), (1, n), shown)
        self.assertIn("not the same", shown)

    def test_no_value_fits_on_the_command_line(self):
        r = self.hub.run("secret", "set", "TOKEN", VALUE)
        self.assertEqual((r.returncode, self.hub.seen), (64, []))

    def test_a_passphrase_is_asked_for_only_where_there_is_one(self):
        rc, shown = self.at_a_terminal([VALUE], "vault", "unlock")
        self.assertEqual((rc, self.hub.seen[-1].json), (0, {"passphrase": VALUE}), shown)
        self.assertNotIn(VALUE, shown)
        self.hub.answers["GET", "/api/v1/vault"] = lambda h, q: dict(VAULT, key="file")
        r = self.hub.run("vault", "unlock")
        self.assertEqual((r.returncode, self.hub.seen[-1].json), (0, {}), r)

    def test_rotation_says_what_it_means(self):
        self.assertEqual(self.hub.run("vault", "rotate", "data").returncode, 0)
        self.assertEqual(self.hub.seen[-1].json, {"level": "data"})
        self.assertEqual(self.hub.run("vault", "rotate", "master").returncode, 0)
        self.assertEqual(self.hub.seen[-1].json, {"level": "master"})
        self.assertEqual(self.hub.run("vault", "rotate", "master", "--key", "passphrase", stdin=b"a long passphrase\n").returncode, 0)
        self.assertEqual(self.hub.seen[-1].json, {"level": "master", "key": "passphrase", "passphrase": "a long passphrase"})
        for args in (["key"], [], ["data", "--key", "file"]):
            self.assertEqual(self.hub.run("vault", "rotate", *args).returncode, 64, args)

    def test_status_is_for_people_and_programs(self):
        r = self.hub.run("vault", "status")
        self.assertIn(b"locked: it waits", r.stdout)
        r = self.hub.run("vault", "status", "-o", "json")
        self.assertIn(b'"data_key_uses":4', r.stdout)

    def test_a_locked_vault_is_said_with_what_to_do(self):
        self.hub.answers["PUT", "/api/v1/secrets/TOKEN"] = lambda h, q: h.problem(503, "vault_locked", "the vault is locked: photon vault unlock")
        r = self.hub.run("secret", "set", "TOKEN", stdin=VALUE.encode())
        self.assertEqual(r.returncode, 1, r)
        self.assertIn(b"photon vault unlock", r.stderr)
        self.assertEqual(len(self.hub.seen), 1)  # asking again opens nothing
        self.assertNotIn(VALUE.encode(), r.stderr)

    def test_exec_names_secrets_and_carries_none(self):
        self.hub.answers["POST", "/api/v1/calls"] = lambda h, q: h.problem(400, "invalid_argument", "enough")
        self.hub.run("exec", "-n", "--secret", "TOKEN", "--secret", "KEY=MY_KEY", "--", "x")
        self.assertEqual(self.hub.seen[-1].json["secrets"], [{"name": "TOKEN"}, {"name": "KEY", "as": "MY_KEY"}])


if __name__ == "__main__":
    unittest.main()
