"""Looks for a secret where it must not be: as it is, in base64 at each alignment, in hex, and by halves, which
covers what percent-encoding, JSON and cut ends leave of it."""
import base64
import os
import secrets
import socket
import threading
from pathlib import Path


class Canary:
    """A value that no text has by chance. What encoders change stands around its core, which they do not."""

    def __init__(self):
        self.core = secrets.token_hex(20)
        self.value = f'c"n/r+y \\ä{self.core}€&<x>'
        halves = self.core[:20], self.core[20:]
        self.needles = {}
        for h in halves:
            raw = h.encode()
            self.needles["plain " + h] = raw
            self.needles["hex " + h] = raw.hex().encode()
            self.needles["HEX " + h] = raw.hex().upper().encode()
            for shift in range(3):
                text = base64.b64encode(b"x" * shift + raw)
                self.needles[f"base64+{shift} {h}"] = text[(shift * 8 + 5) // 6:(shift + len(raw)) * 8 // 6]

    def found(self, data):
        if isinstance(data, str):
            data = data.encode()
        return sorted(name for name, n in self.needles.items() if n in data)

    @staticmethod
    def text_in_files(text, *folders):
        return [str(p) for f in folders for p in Path(f).rglob("*") if p.is_file() and text.encode() in p.read_bytes()]

    def found_in_files(self, *folders):
        """Every file below: what it is called, and what was found in it."""
        hits, looked = [], 0
        for folder in folders:
            for path in Path(folder).rglob("*"):
                try:
                    if path.is_symlink() or not path.is_file():
                        continue
                    data = path.read_bytes()
                except OSError:
                    continue  # it went meanwhile
                looked += 1
                hits += [f"{path}: {name}" for name in self.found(data) + self.found(path.name)]
        return hits, looked


class CommandLines(threading.Thread):
    """Reads every command line of the machine, again and again, while a test runs."""

    def __init__(self, canary):
        super().__init__(daemon=True)
        self.canary, self.over, self.hits, self.looked = canary, threading.Event(), set(), 0

    def run(self):
        while not self.over.is_set():
            for pid in os.listdir("/proc"):
                if not pid.isdigit() or int(pid) == os.getpid():
                    continue
                try:
                    line = Path(f"/proc/{pid}/cmdline").read_bytes()
                except OSError:
                    continue
                self.looked += 1
                if self.canary.found(line):
                    self.hits.add(line)
            self.over.wait(0.02)

    def stop(self):
        self.over.set()
        self.join()


class Relay:
    """Between an agent and its hub: passes on, and keeps, every byte."""

    def __init__(self, port):
        self.to, self.bytes, self.lock = port, bytearray(), threading.Lock()
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                one, _ = self.server.accept()
                two = socket.create_connection(("127.0.0.1", self.to))
            except OSError:
                if self.server.fileno() < 0:
                    return
                one.close()
                continue  # the hub is down: the agent tries again
            for a, b in ((one, two), (two, one)):
                threading.Thread(target=self._pump, args=(a, b), daemon=True).start()

    def _pump(self, a, b):
        try:
            while data := a.recv(65536):
                with self.lock:
                    self.bytes += data
                b.sendall(data)
        except OSError:
            pass
        for s in (a, b):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def seen(self):
        with self.lock:
            return bytes(self.bytes)

    def close(self):
        self.server.close()
