"""Run by test_models.py in a network namespace of its own: d0 is the only way out of this machine, and counts."""
import json
import subprocess
import unittest
from pathlib import Path

from ai import Models
from harness import World

OWN, FAR = "198.51.100.1", "198.51.100.9"  # for documentation, RFC 5737


def ip(*args):
    subprocess.run(["ip", *args], check=True)


def left():
    """Packets that left."""
    line = next(x for x in Path("/proc/self/net/dev").read_text().splitlines() if x.strip().startswith("d0:"))
    return int(line.split(":")[1].split()[9])


class Inside(World):
    def setUp(self):
        super().setUp()
        ip("link", "set", "lo", "up")
        ip("link", "add", "d0", "type", "veth", "peer", "name", "d1")
        for d in ("d0", "d1"):
            Path(f"/proc/sys/net/ipv6/conf/{d}/disable_ipv6").write_text("1")
        ip("addr", "add", f"{OWN}/24", "dev", "d0")
        ip("link", "set", "d0", "up")
        ip("link", "set", "d1", "up")

    def test_no_packet_leaves(self):
        m = Models(self.dir / "requests")
        self.addCleanup(m.stop)
        # What the stand-in serves on loopback is reached by this machine's own address, too.
        relay = subprocess.Popen(["python3", "-c", RELAY, OWN, str(m.port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(relay.stdout.close)
        self.addCleanup(relay.wait)
        self.addCleanup(relay.stdin.close)
        self.assertEqual(relay.stdout.readline(), "ready\n")

        def ep(name, host, local):
            return {"name": name, "kind": "openai", "base_url": f"http://{host}:{m.port}/v1", "local": local, "retries": 1,
                    "connect_timeout": "1s", "models": [{"name": name, "capabilities": []}]}

        conf = self.dir / "a.yaml"
        conf.write_text(json.dumps({"models": [ep("here", "127.0.0.1", True), ep("named", "localhost", True), ep("own", OWN, True),
                                               ep("lies", FAR, True), ep("cloud", FAR, False)]}))
        hub = self.hub()
        self.agent(hub, "a1", "--config", conf)

        def ask(**more):
            r = hub.cli("call", "llm.chat", "-o", "json", "--input", json.dumps({"prompt": "hi", "retries": 0, **more}))
            return r.returncode, r.stdout + r.stderr

        before = left()
        for e in ("here", "named", "own"):
            rc, said = ask(endpoint=e, need={"privacy": "local-only"})
            self.assertEqual(rc, 0, said)
        for more in ({"endpoint": "lies"}, {"endpoint": "lies", "privacy": "local-only"}, {"endpoint": "lies", "need": {"privacy": "local-only"}}):
            rc, said = ask(**more)
            self.assertEqual(rc, 1)
            self.assertIn("not_local", said)
        rc, said = ask(endpoint="cloud", privacy="local-only")
        self.assertEqual(rc, 1)
        self.assertIn("is not local", said)
        self.assertEqual(left(), before, "something left the machine")
        # The counter counts: what is not local does leave.
        rc, said = ask(endpoint="cloud")
        self.assertIn("connect_failed", said)
        self.assertGreater(left(), before)


RELAY = """
import socket, sys, threading, os
s = socket.create_server((sys.argv[1], int(sys.argv[2])))
def pump(a, b):
    try:
        while d := a.recv(65536): b.sendall(d)
    except OSError: pass
    try: b.shutdown(socket.SHUT_WR)
    except OSError: pass
def serve():
    while True:
        a, _ = s.accept()
        b = socket.create_connection(("127.0.0.1", int(sys.argv[2])))
        for x, y in ((a, b), (b, a)): threading.Thread(target=pump, args=(x, y), daemon=True).start()
threading.Thread(target=serve, daemon=True).start()
print("ready", flush=True)
sys.stdin.read()
os._exit(0)
"""


if __name__ == "__main__":
    unittest.main()
