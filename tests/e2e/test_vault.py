"""The vault with real binaries: a secret is used, and found nowhere."""
import base64
import json
import os
import unittest

from harness import World, wait_for


class Vault(World):
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


if __name__ == "__main__":
    unittest.main()
