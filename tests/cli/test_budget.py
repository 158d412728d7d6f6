"""photon budget: what goes to the hub, what people see of it."""
import json
import unittest

from fakehub import FakeHub

BUDGET = {"id": "day:web", "scope": "day", "name": "web", "cap": {"usd": "5.00", "tokens": None}, "over": "ask",
          "spent": {"usd": "1.25", "tokens": 400}, "reserved": {"usd": "0.50", "tokens": 0}, "raised": {"usd": "0.00", "tokens": 0},
          "left": {"usd": "3.25", "tokens": None}, "waiting": 2, "updated_at": "2026-11-29T10:00:00.000000Z", "updated_by": "eve"}
ENTRY = {"id": "17", "state": "settled", "run": "01run", "step": "fix", "attempt": 1, "project": "web", "agent": "a1", "tool": "acme.think",
         "model": None, "day": "2026-11-29", "estimate": "step", "reserved": {"usd": "0.10", "tokens": None},
         "spent": {"usd": "0.15", "tokens": 30}, "overrun": {"usd": "0.05", "tokens": 0}, "stopped": True,
         "reserved_at": "2026-11-29T10:00:00.000000Z", "settled_at": "2026-11-29T10:00:05.000000Z"}


class Budget(unittest.TestCase):
    def setUp(self):
        self.hub = FakeHub()
        self.addCleanup(self.hub.close)

    def photon(self, *args):
        r = self.hub.run("budget", *args)
        r.out, r.err = r.stdout.decode(), r.stderr.decode()
        return r

    def test_set_sends_the_whole_cap_as_it_was_typed(self):
        sent = []
        self.hub.answers["PUT", "/api/v1/budgets/day:web"] = lambda h, q: (sent.append(q.json), BUDGET)[1]
        r = self.photon("set", "day:web", "--usd", "5.10", "--over", "ask")
        self.assertEqual(r.returncode, 0, r.err)
        r = self.photon("set", "day:web", "--tokens", "200000", "--restart")
        self.assertEqual(r.returncode, 0, r.err)
        self.assertEqual(sent, [{"usd": "5.10", "over": "ask"}, {"tokens": 200000, "restart": True}])
        self.assertRegex(r.out, r"left +3\.25 USD\n")
        self.assertRegex(r.out, r"over +people are asked\n")

    def test_a_cap_must_be_said(self):
        for args in (("set", "day"), ("set",), ("set", "day", "--tokens", "many"), ("set", "day", "--tokens", "-5"), ("show",), ("delete",)):
            r = self.photon(*args)
            self.assertEqual(r.returncode, 64, (args, r.err))
        self.assertEqual([q for q in self.hub.seen if "budgets" in q.path], [])

    def test_lists_and_ledgers_are_tables_or_json(self):
        self.hub.answers["GET", "/api/v1/budgets"] = lambda h, q: {"items": [BUDGET], "next_cursor": None}
        self.hub.answers["GET", "/api/v1/ledger"] = lambda h, q: {"items": [ENTRY, dict(ENTRY, id="16", stopped=False, state="lost", run=None, step=None,
                                                                  overrun={"usd": "0.00", "tokens": 0})], "next_cursor": None}
        r = self.photon("list")
        self.assertIn("1.25 USD, 400 tokens", r.out)
        self.assertEqual(json.loads(self.photon("list", "-o", "json").out), [BUDGET])
        r = self.photon("ledger", "--run", "01 run", "--agent", "a&1", "--day", "2026-11-29", "--state", "settled")
        q = [q for q in self.hub.seen if q.path == "/api/v1/ledger"][0].query
        self.assertEqual({k: q[k] for k in ("run", "agent", "day", "state")}, {"run": "01 run", "agent": "a&1", "day": "2026-11-29", "state": "settled"})
        first, second = r.out.splitlines()[1:]
        self.assertRegex(first, r"stopped .*0\.10 USD +0\.15 USD, 30 tokens +0\.05 USD")
        self.assertRegex(second, r"lost +- +- ")

    def test_what_the_hub_refuses_is_said(self):
        self.hub.answers["DELETE", "/api/v1/budgets/day"] = lambda h, q: h.problem(403, "permission_denied", "c lacks the permission budgets.manage")
        r = self.photon("delete", "day")
        self.assertEqual(r.returncode, 4)
        self.assertIn("budgets.manage", r.err)

    def test_names_cannot_leave_their_place_in_the_path(self):
        seen = []
        self.hub.answers["GET", "/api/v1/budgets/project:a/../../runs"] = lambda h, q: (seen.append(1), BUDGET)[1]
        self.photon("show", "project:a/../../runs")
        raw = [q.path for q in self.hub.seen]
        self.assertEqual(raw[-1], "/api/v1/budgets/project:a/../../runs")  # one escaped segment, as it was typed
        self.assertEqual(seen, [1])


if __name__ == "__main__":
    unittest.main()
