#!/usr/bin/env python3
"""An agent that speaks ACP version 1 on standard input and output, and does each odd thing that the protocol allows or
that a bad agent does: for the unit tests of the client. fake_acp.py stands in for a real agent instead.

What it does in a turn stands in the prompt, in order:

    [[text: T]] [[id-text: T]] [[thought: T]]  says T, also with a messageId, thinks T (\\uXXXX escapes are written as they are)
    [[plan]] [[usage: USED SIZE USD]]
    [[tool: KIND TITLE]]             a tool use from pending to completed, with a diff for `edit`
    [[ask: KIND WHAT]]               asks permission; WHAT is a file to write (edit, delete) or a command (execute);
                                     does it when allowed. The options' ids say the opposite of what they do.
    [[ask2: KIND WHAT]]              the same, asked twice for the same tool use
    [[askonly: OPTION KIND WHAT]]    offers only the option of that kind
    [[bare]]                         the next request for permission holds nothing but the tool use's id
    [[reject-ends]]                  a refusal ends the turn, as in Codex
    [[sleep: MS]] [[hang]]           waits; `hang` till it is cancelled, [[deaf]] whatever comes
    [[die: STATUS]] [[half]]         exits; `half` in the middle of a message
    [[close]]                        ends its standard output and lives on
    [[big: BYTES]] [[junk]] [[noise: T]] [[stderr: T]] [[unknown]] [[twice]]
    [[error: {"code": .., ..}]]      answers the prompt with that error
    [[stop: REASON]] [[broken: T]]   ends for that reason; as Codex does when its API fails
    [[grandchild]]                   starts a process that ignores TERM in a session of its own, says its pid
    [[blocks]] [[env: NAME]] [[servers]] [[args]]   says what it was given
    [[model]] [[mode]] [[history]]   says what is set, and the prompts of the session so far

Options: --auth, --auth-ok: session/new needs `authenticate`; --no-load, --resume; --ids: its ids are texts;
--version N; --mute: answers nothing; --mode NAME: starts in it; --config: model and mode as config options;
--ignore-term, --ignore-eof; --replay-late: tells an old conversation again after it has answered session/load."""
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid

ARGS = sys.argv[1:]
HOME = os.path.join(os.environ.get("HOME", "/nonexistent"), ".fake_acp")
MODELS = ["fast", "deep"]
MODES = ["default", "auto", "yolo", "plan"]
WRITE = threading.Lock()


def opt(name, default=None):
    return ARGS[ARGS.index(name) + 1] if name in ARGS else default


def raw(text):
    with WRITE:
        sys.stdout.write(text)
        sys.stdout.flush()


def send(o):
    raw(json.dumps(o, separators=(",", ":")) + "\n")


class Cancelled(Exception):
    pass


class Ended(Exception):
    pass


class Session:
    def __init__(self, sid, cwd, prompts=None, cost=0.0):
        self.sid, self.cwd, self.prompts, self.cost = sid, cwd, prompts or [], cost
        self.model, self.mode, self.servers = MODELS[0], opt("--mode", "default"), []
        self.cancelled = threading.Event()

    def save(self):
        os.makedirs(HOME, exist_ok=True)
        with open(os.path.join(HOME, self.sid), "w", encoding="utf-8") as f:
            json.dump({"cwd": self.cwd, "prompts": self.prompts, "cost": self.cost}, f)


class Agent:
    def __init__(self):
        self.sessions, self.waiting, self.next_id, self.authed = {}, {}, 0, False

    # --- what it asks ---

    def ask(self, method, params):
        n = self.next_id
        self.next_id += 1
        rid = f"r/{n}" if "--ids" in ARGS else n
        box = [threading.Event(), None]
        self.waiting[rid] = box
        send({"jsonrpc": "2.0", "id": rid, "method": method, "params": params})
        box[0].wait()
        return box[1]

    def update(self, s, **u):
        send({"jsonrpc": "2.0", "method": "session/update", "params": {"sessionId": s.sid, "update": u}})

    def say(self, s, text):
        self.update(s, sessionUpdate="agent_message_chunk", content={"type": "text", "text": text})

    # --- a turn ---

    def permission(self, s, kind, what, only=None, times=1, bare=False, ends=False):
        tid = "use-" + uuid.uuid4().hex[:6]
        path = os.path.join(s.cwd, what)
        call = {"toolCallId": tid, "title": f"{kind} {what}", "kind": kind, "status": "pending"}
        if kind == "execute":
            call["rawInput"] = {"command": what}
        else:
            call["rawInput"] = {"file_path": path, "content": "by the fake\n"}
            call["locations"] = [{"path": path}]
            call["content"] = [{"type": "diff", "path": path, "oldText": None, "newText": "by the fake\n"}]
        self.update(s, sessionUpdate="tool_call", **call)
        options = [{"optionId": "no-never", "name": "Yes", "kind": "allow_once"},
                   {"optionId": "no-not-once", "name": "Always", "kind": "allow_always"},
                   {"optionId": "yes-please", "name": "No", "kind": "reject_once"},
                   {"optionId": "yes-always", "name": "Never", "kind": "reject_always"}]
        options = [o for o in options if only is None or o["kind"] == only]
        chosen = None
        for _ in range(times):
            a = self.ask("session/request_permission", {"sessionId": s.sid, "options": options,
                                                        "toolCall": {"toolCallId": tid} if bare else call})
            out = (a.get("result") or {}).get("outcome") or {}
            if out.get("outcome") == "cancelled" and s.cancelled.is_set():
                raise Cancelled
            chosen = next((o["kind"] for o in options if o["optionId"] == out.get("optionId")), out.get("outcome"))
        if chosen not in ("allow_once", "allow_always"):
            self.update(s, sessionUpdate="tool_call_update", toolCallId=tid, status="failed")
            self.say(s, f"[{chosen}]")
            if ends:
                raise Ended("cancelled")
            return
        self.update(s, sessionUpdate="tool_call_update", toolCallId=tid, status="in_progress")
        out = ""
        if kind == "execute":
            out = subprocess.run(what, shell=True, cwd=s.cwd, capture_output=True, text=True).stdout
        elif kind == "delete":
            os.unlink(path)
        else:
            with open(path, "w", encoding="utf-8") as f:
                f.write("by the fake\n")
        self.update(s, sessionUpdate="tool_call_update", toolCallId=tid, status="completed", rawOutput=out or "done")
        self.say(s, f"[{chosen}]")

    def step(self, s, key, value, state, params):
        word, _, rest = value.partition(" ")
        if key == "text":
            self.say(s, json.loads('"' + value.replace('"', '\\"') + '"'))
        elif key == "thought":
            self.update(s, sessionUpdate="agent_thought_chunk", content={"type": "text", "text": value})
        elif key == "plan":
            self.update(s, sessionUpdate="plan", entries=[
                {"content": "look", "priority": "high", "status": "completed"},
                {"content": "act", "priority": "low", "status": "in_progress"}])
        elif key == "usage":
            used, size, usd = value.split()
            s.cost += float(usd)
            self.update(s, sessionUpdate="usage_update", used=int(used), size=int(size),
                        cost={"amount": s.cost, "currency": "USD"})
        elif key == "tool":
            tid = "use-" + uuid.uuid4().hex[:6]
            self.update(s, sessionUpdate="tool_call", toolCallId=tid, kind=word, title=rest, status="pending",
                        content=[{"type": "diff", "path": "/x", "oldText": "a", "newText": "b"}] if word == "edit" else [],
                        locations=[{"path": "/x", "line": 3}], rawInput={"q": rest})
            self.update(s, sessionUpdate="tool_call_update", toolCallId=tid, status="completed",
                        content=[{"type": "content", "content": {"type": "text", "text": "found it"}}])
        elif key in ("ask", "ask2"):
            self.permission(s, word, rest, times=1 + (key == "ask2"), bare=state.pop("bare", False),
                            ends=state.get("ends", False))
        elif key == "askonly":
            kind, _, what = rest.partition(" ")
            self.permission(s, kind, what, only=word)
        elif key == "bare":
            state["bare"] = True
        elif key == "reject-ends":
            state["ends"] = True
        elif key == "sleep":
            if s.cancelled.wait(int(value) / 1000):
                raise Cancelled
        elif key == "hang":
            s.cancelled.wait()
            raise Cancelled
        elif key == "deaf":
            threading.Event().wait()
        elif key == "die":
            sys.stderr.write("the fake dies as it was told\n")
            sys.stderr.flush()
            os._exit(int(value))
        elif key == "half":
            raw('{"jsonrpc":"2.0","method":"session/upd')
            os._exit(0)
        elif key == "close":
            os.close(1)
            threading.Event().wait()
        elif key == "big":
            self.say(s, "x" * int(value))
        elif key == "junk":
            raw('{"jsonrpc":"2.0","method":\n')
        elif key == "stderr":
            sys.stderr.write(value + "\n")
            sys.stderr.flush()
        elif key == "noise":
            raw(value + "\n")
        elif key == "unknown":
            self.update(s, sessionUpdate="moon_phase", phase="full")
            send({"jsonrpc": "2.0", "method": "_vendor/thing", "params": {}})
        elif key == "twice":
            state["twice"] = True
        elif key == "error":
            state["error"] = json.loads(value)
        elif key == "stop":
            raise Ended(value)
        elif key == "id-text":
            self.update(s, sessionUpdate="agent_message_chunk", messageId="m1", content={"type": "text", "text": value})
        elif key == "broken":
            self.update(s, sessionUpdate="session_info_update", _meta={"codex": {"threadStatus": {"type": "systemError"}}})
            self.say(s, value)
        elif key == "grandchild":
            p = subprocess.Popen(["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"],
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True)
            p.stdout.readline()
            self.say(s, str(p.pid))
        elif key == "blocks":
            self.say(s, json.dumps(params["prompt"]))
        elif key == "env":
            self.say(s, os.environ.get(value, "(unset)"))
        elif key == "servers":
            self.say(s, json.dumps(s.servers))
        elif key == "args":
            self.say(s, json.dumps(ARGS))
        elif key in ("model", "mode"):
            self.say(s, getattr(s, key))
        elif key == "history":
            self.say(s, str(len(s.prompts)))

    def prompt(self, rid, s, params):
        text = "".join(b.get("text", "") for b in params["prompt"] if b["type"] == "text")
        s.prompts.append(text)
        s.cancelled.clear()
        state, reason = {}, "end_turn"
        try:
            for m in re.finditer(r"\[\[([a-z0-9-]+)(?::\s?(.*?))?\]\]", text, re.S):
                self.step(s, m.group(1), m.group(2) or "", state, params)
        except Cancelled:
            reason = "cancelled"
        except Ended as e:
            reason = str(e)
        s.save()
        if "error" in state:
            send({"jsonrpc": "2.0", "id": rid, "error": state["error"]})
            return
        answer = {"jsonrpc": "2.0", "id": rid, "result": {"stopReason": reason, "usage": {
            "totalTokens": 30, "inputTokens": 20, "outputTokens": 10}}}
        send(answer)
        if "twice" in state:
            send(answer)

    # --- what it is asked ---

    def offer(self, s):
        modes = {"currentModeId": s.mode, "availableModes": [{"id": m, "name": m.title()} for m in MODES]}
        models = {"currentModelId": s.model, "availableModels": [{"modelId": m, "name": m.title() + " One"} for m in MODELS]}
        if "--config" not in ARGS:
            return {"modes": modes, "models": models}
        return {"configOptions": [
            {"id": "mode", "name": "Mode", "category": "mode", "type": "select", "currentValue": s.mode,
             "options": [{"value": m, "name": m} for m in MODES]},
            {"id": "the-model", "name": "Model", "category": "model", "type": "select", "currentValue": s.model,
             "options": [{"group": "g", "name": "G", "options": [{"value": m, "name": m} for m in MODELS]}]}]}

    def initialize(self, p):
        caps = {"promptCapabilities": {"image": True, "embeddedContext": "--no-embed" not in ARGS},
                "mcpCapabilities": {"http": True, "sse": False}, "loadSession": "--no-load" not in ARGS}
        if "--resume" in ARGS:
            caps["sessionCapabilities"] = {"resume": {}}
        return {"protocolVersion": int(opt("--version", p["protocolVersion"])), "agentCapabilities": caps,
                "agentInfo": {"name": "fake-acp", "version": "1"},
                "authMethods": [{"id": "cursor_login", "name": "Log in", "description": "In a browser"}]}

    def open(self, p):
        if ("--auth" in ARGS) or ("--auth-ok" in ARGS and not self.authed):
            raise LookupError(-32000, "Authentication required")
        s = Session(str(uuid.uuid4()), p["cwd"])
        s.servers = p["mcpServers"]
        self.sessions[s.sid] = s
        return dict(self.offer(s), sessionId=s.sid)

    def load(self, p, replay):
        try:
            with open(os.path.join(HOME, p["sessionId"]), encoding="utf-8") as f:
                old = json.load(f)
        except OSError:
            raise LookupError(-32002, "Resource not found") from None
        if old["cwd"] != p["cwd"]:
            raise LookupError(-32002, "Resource not found")
        s = self.sessions[p["sessionId"]] = Session(p["sessionId"], p["cwd"], old["prompts"], old["cost"])
        s.servers = p["mcpServers"]
        def tell():
            for t in old["prompts"]:
                self.update(s, sessionUpdate="user_message_chunk", content={"type": "text", "text": t})
                self.say(s, "REPLAYED")
        if replay and "--replay-late" in ARGS:
            threading.Timer(0.05, tell).start()
        elif replay:
            tell()
        return self.offer(s)

    def handle(self, method, p):
        if method == "initialize":
            return self.initialize(p)
        if method == "authenticate":
            if "--auth" in ARGS:
                raise LookupError(-32000, "no browser here")
            self.authed = True
            return {}
        if method == "session/new":
            return self.open(p)
        if method == "session/load":
            return self.load(p, True)
        if method == "session/resume" and "--resume" in ARGS:
            return self.load(p, False)
        if method in ("session/set_mode", "session/set_model", "session/set_config_option"):
            s = self.sessions[p["sessionId"]]
            key = {"session/set_mode": "mode", "session/set_model": "model"}.get(method) or p["configId"].split("-")[-1]
            setattr(s, key, p.get("modeId") or p.get("modelId") or p.get("value"))
            return {}
        raise LookupError(-32601, f"Method not found: {method}")

    def line(self, o):
        method, rid, p = o.get("method"), o.get("id"), o.get("params") or {}
        if method is None:
            box = self.waiting.pop(rid, None)
            if box:
                box[1] = o
                box[0].set()
        elif method == "session/cancel":
            s = self.sessions.get(p["sessionId"])
            if s:
                s.cancelled.set()
        elif method == "session/prompt":
            threading.Thread(target=self.prompt, args=(rid, self.sessions[p["sessionId"]], p), daemon=True).start()
        elif rid is not None:
            try:
                send({"jsonrpc": "2.0", "id": rid, "result": self.handle(method, p)})
            except LookupError as e:
                send({"jsonrpc": "2.0", "id": rid, "error": {"code": e.args[0], "message": e.args[1]}})


def main():
    if "--ignore-term" in ARGS:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "--hello" in ARGS:
        print("Welcome to the fake!", flush=True)
    a = Agent()
    for text in sys.stdin:
        if "--mute" not in ARGS:
            a.line(json.loads(text))
    if "--ignore-eof" in ARGS:
        while True:
            time.sleep(60)


main()
