#!/usr/bin/env python3
"""A stand-in for Cursor's command line (`cursor-agent`, also installed as `agent`), after its
documentation; the real one cannot be had from a package registry.

    fake_cursor.py acp                                an ACP agent (fake_acp.py)
    fake_cursor.py status | --version                 login state, version
    fake_cursor.py -p --output-format stream-json [--force] [--resume ID] [--model M] [--workspace DIR] PROMPT

-p runs tools only with --force and has no questions. Markers: script.py and fake.py; [[fail: T]] is
a failure as documented: exit status 1, T on stderr, no result event. FAKE_CURSOR=logged-out, or no-acp: a release that has no `acp`."""
import json
import os
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import fake  # noqa: E402
import fake_acp  # noqa: E402
import script  # noqa: E402

VALUED = ("--output-format", "--model", "--resume", "--workspace", "--mode", "-a", "--api-key", "-H", "--header")


def options():
    got, words, a, i = {}, [], sys.argv[1:], 0
    while i < len(a):
        if a[i] in VALUED and i + 1 < len(a):
            got[a[i]] = a[i + 1]
            i += 1
        elif a[i] == "--":
            words += a[i + 1:]
            break
        elif a[i].startswith("-"):
            got[a[i]] = True
        else:
            words.append(a[i])
        i += 1
    return got, words


class Cursor(fake.Fake):
    def __init__(self, o, words):
        super().__init__()
        self.o = o
        self.sid = o.get("--resume") or fake.new_id()
        self.cwd = o.get("--workspace") or os.getcwd()
        self.lines = o.get("--output-format", "text") == "stream-json"
        self.prompt = " ".join(words) or ("" if sys.stdin.isatty() else sys.stdin.read())

    def tell(self, **doc):
        if self.lines:
            self.send({**doc, "session_id": self.sid, "timestamp_ms": int(time.time() * 1000)})

    def text(self, text):
        self.tell(type="assistant", message={"role": "assistant", "content": [{"type": "text", "text": text}]})

    def print_mode(self):
        begin = time.monotonic()
        self.tell(type="system", subtype="init", apiKeySource="env", cwd=self.cwd, model=self.o.get("--model", "stand-in"),
                  permissionMode="default")
        self.tell(type="user", message={"role": "user", "content": [{"type": "text", "text": self.prompt}]})
        said = ""
        for step in script.parse(self.prompt):
            said = self.step(step)
        ms = int((time.monotonic() - begin) * 1000)
        result = {"type": "result", "subtype": "success", "duration_ms": ms, "duration_api_ms": ms, "is_error": False, "result": said,
                  "request_id": fake.new_id(), "usage": {"inputTokens": 100, "outputTokens": 10, "cacheReadTokens": 0}}
        if self.lines:
            self.tell(**result)
        else:
            print(json.dumps({**result, "session_id": self.sid}) if self.o.get("--output-format") == "json" else said)
        return 0

    def step(self, step):
        text = self.before(step) + "".join(step.texts) + "x" * step.big
        if "fail" in step.other or step.status:
            print((step.other.get("fail") or [f"stand-in says {step.status}"])[0], file=sys.stderr)
            sys.exit(1)
        for t in step.thoughts:
            self.tell(type="thinking", subtype="delta", text=t)
            self.tell(type="thinking", subtype="completed")
        if text:
            self.pieces(text, step)
        self.instead(step)
        if step.hang is not None:
            time.sleep(3600)
        for n, (name, args) in enumerate(step.tools):
            self.use(n, name, args)
        if not text:
            text = script.DEFAULT_TEXT
            self.pieces(text, step)
        return text

    def pieces(self, text, step):
        if "--stream-partial-output" in self.o:
            for p in script.pieces(text, step.big or step.chunk):
                time.sleep(step.slow / 1000)
                self.text(p)
        self.text(text)

    def use(self, n, name, args):
        kind = {"edit": "writeToolCall", "execute": "shellToolCall", "read": "readToolCall", "delete": "deleteToolCall"}.get(
            fake.kind_of(name), "function")
        call = f"tool_{n}_{fake.new_id()[:8]}"
        self.tell(type="tool_call", subtype="started", call_id=call, tool_call={kind: {"args": args}})
        result = {"rejected": {"reason": "User rejected"}}
        if {"--force", "-f", "--yolo"} & set(self.o) or fake.kind_of(name) == "read":
            ok, out = self.do_tool(name, args, self.cwd, threading.Event())
            result = {"success" if ok else "failure": {"path": args.get("path"), "stdout": out, "exitCode": 0 if ok else 1}}
        self.tell(type="tool_call", subtype="completed", call_id=call, tool_call={kind: {"args": args, "result": result}})


def main():
    o, words = options()
    if "--version" in o or "-v" in o:
        print(fake.VERSION)
        return 0
    if "--help" in o:
        acp = words[:1] == ["acp"] and os.environ.get("FAKE_CURSOR") != "no-acp"
        print(f"Usage: agent {'acp ' if acp else ''}[options] {'' if acp else '[command] [prompt...]'}")
        return 0
    if words[:1] in (["status"], ["whoami"]):
        if os.environ.get("FAKE_CURSOR") == "logged-out":
            print("Not logged in")
            return 1
        print("Logged in as stand-in@example.test")
        return 0
    if words[:1] == ["acp"]:
        fake.serve_forever(fake_acp.Agent)
        return 0
    if "-p" not in o and "--print" not in o:
        print("the stand-in has no screen: use -p or acp", file=sys.stderr)
        return 2
    return Cursor(o, words).print_mode()


if __name__ == "__main__":
    sys.exit(main())
