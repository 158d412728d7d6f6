#!/usr/bin/env python3
"""A stand-in for an agent that speaks ACP v1 on stdin and stdout: `fake_acp.py [--acp] [-m MODEL]`.
The prompt says what it does: see script.py and fake.py for the markers, and besides

    [[tool: Write {"path": "a.txt", "content": "hi"}]]   also Read, Bash {"command": ..}, Delete: asks
                        for permission where a real one would, then really does it
    [[ask-twice]]       asks the same question again after the first answer
    [[ask-id: J]]       the JSON value J as the id of its next question ("x", 0, 7)
    [[no-once]]         offers only allow_always and reject_always
    [[reject-ends]]     a rejection ends the turn (as codex does), instead of going on
    [[plan: A; B]]      a plan of these entries, the first one done
    [[cost: USD]]       in usage_update            [[mode: M]]  tells that its mode is now M
    [[status: 401]]     as the adapters tell API failures: 401 -> -32000, others -> -32603
    [[request: METHOD]] asks the client for something it does not offer, and says what came
    [[error: T]]        the prompt fails with -32603 T        [[stop: WORD]]  stopReason
    [[late]]            updates that come after the end of the turn

FAKE_ACP=version-2|no-load|auth|mute in the environment changes what `initialize` gives."""
import json
import os
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import fake  # noqa: E402
import script  # noqa: E402

MODES = [{"id": "default", "name": "Default"}, {"id": "acceptEdits", "name": "Accept edits"}, {"id": "plan", "name": "Plan"},
         {"id": "bypassPermissions", "name": "Bypass"}]


class Session:
    def __init__(self, sid, cwd, history):
        self.sid, self.cwd, self.history = sid, cwd, history
        self.mode, self.cost = "default", 0.0
        self.cancelled = threading.Event()
        self.running = False


class Agent(fake.Fake):
    def __init__(self):
        super().__init__()
        self.kept = fake.Sessions("fake-acp")
        self.sessions = {}
        self.next_id = 0
        self.how = os.environ.get("FAKE_ACP", "")

    # --- requests of the client
    def on_message(self, m):
        if "method" not in m:
            self.answered(json.dumps(m.get("id")), m)
            return
        name, p, rid = m["method"], m.get("params") or {}, m.get("id")
        if self.how == "mute":
            return
        f = {"initialize": self.initialize, "authenticate": lambda p: {}, "session/new": self.new, "session/load": self.load,
             "session/resume": self.resume, "session/set_mode": self.set_mode, "session/set_model": lambda p: {},
             "session/list": self.list, "session/close": lambda p: {}}.get(name)
        if name == "session/prompt":
            self.in_thread(self.prompt, rid, p)
        elif name == "session/cancel":
            s = self.sessions.get(p.get("sessionId"))
            if s:
                s.cancelled.set()
                for q in self.waiting.values():
                    q.put({"result": {"outcome": {"outcome": "cancelled"}}})
        elif f is None:
            if rid is not None:
                self.error(rid, -32601, f'"Method not found": {name}', {"method": name})
        else:
            try:
                self.send({"jsonrpc": "2.0", "id": rid, "result": f(p)})
            except LookupError as e:
                self.error(rid, -32002, "Resource not found", {"sessionId": str(e)})
            except PermissionError:
                self.error(rid, -32000, "Authentication required")
            except (KeyError, TypeError, ValueError) as e:
                self.error(rid, -32602, "Invalid params", {"details": repr(e)})

    def error(self, rid, code, message, data=None):
        self.send({"jsonrpc": "2.0", "id": rid, "error": {"code": code, "message": message, **({"data": data} if data else {})}})

    def initialize(self, p):
        return {"protocolVersion": 2 if self.how == "version-2" else 1,
                "agentCapabilities": {"loadSession": self.how != "no-load", "promptCapabilities": {"image": True, "embeddedContext": True},
                                      "mcpCapabilities": {"http": True, "sse": False},
                                      "sessionCapabilities": {} if self.how == "no-load" else {"resume": {}, "list": {}, "close": {}}},
                "agentInfo": {"name": "fake-acp", "title": "Stand-in", "version": fake.VERSION},
                "authMethods": [{"id": "key", "name": "API key"}]}

    def open(self, sid, cwd, history):
        s = self.sessions[sid] = Session(sid, cwd, history)
        return s

    def state(self, s):
        given = sys.argv[sys.argv.index("-m") + 1] if "-m" in sys.argv else "stand-in"
        return {"modes": {"currentModeId": s.mode, "availableModes": MODES},
                "models": {"currentModelId": given, "availableModels": [{"modelId": m, "name": m} for m in sorted({given, "stand-in"})]}}

    def new(self, p):
        if self.how == "auth":
            raise PermissionError
        if not os.path.isabs(p["cwd"]) or not isinstance(p["mcpServers"], list):
            raise ValueError("cwd, mcpServers")
        s = self.open("fake-" + fake.new_id(), p["cwd"], [])
        s.mcp = p["mcpServers"]
        return {"sessionId": s.sid, **self.state(s)}

    def known(self, p):
        doc = self.kept.load(p["sessionId"])
        if doc is None or self.how == "no-load":
            raise LookupError(p["sessionId"])
        s = self.open(p["sessionId"], p["cwd"], doc["history"])
        s.cost = doc.get("cost", 0)
        return s

    def load(self, p):
        s = self.known(p)
        for who, text in s.history:
            self.update(s, "user_message_chunk" if who == "user" else "agent_message_chunk", content={"type": "text", "text": text})
        return self.state(s)

    def resume(self, p):
        return self.state(self.known(p))

    def list(self, p):
        return {"sessions": [{"sessionId": s.sid, "cwd": s.cwd} for s in self.sessions.values()]}

    def set_mode(self, p):
        s = self.sessions.get(p["sessionId"])
        if s is None:
            raise LookupError(p["sessionId"])
        if p["modeId"] not in [m["id"] for m in MODES]:
            raise ValueError(p["modeId"])
        s.mode = p["modeId"]
        return {}

    # --- a turn
    def update(self, s, what, /, **more):
        self.send({"jsonrpc": "2.0", "method": "session/update", "params": {"sessionId": s.sid, "update": {"sessionUpdate": what, **more}}})

    def prompt(self, rid, p):
        s = self.sessions.get(p.get("sessionId"))
        if s is None:
            return self.error(rid, -32002, "Resource not found", {"sessionId": p.get("sessionId")})
        if s.running:
            return self.error(rid, -32600, "A prompt is already running")
        s.running = True
        s.cancelled.clear()
        text = "\n".join(b.get("text", "") or json.dumps(b.get("resource", b)) for b in p.get("prompt", []))
        s.history.append(["user", text])
        self.said = []
        stop, usage, late = "end_turn", [0, 0, 0], False
        try:
            for step in script.parse(text):
                stop = self.step(s, step) or stop
                got = step.usage or [100, 10, 0]
                usage = [a + b for a, b in zip(usage, got + [0] * 3)]
                late = late or "late" in step.other
                if stop != "end_turn":
                    break
        except fake.Gone:
            stop = "cancelled"
        except RpcError as e:
            s.running = False
            return self.error(rid, e.code, e.message, e.data)
        s.history.append(["agent", "".join(self.said)])
        self.kept.save(s.sid, {"history": s.history, "cost": s.cost})
        s.running = False
        self.send({"jsonrpc": "2.0", "id": rid, "result": {"stopReason": stop, "usage": {
            "inputTokens": usage[0], "outputTokens": usage[1], "cachedReadTokens": usage[2], "totalTokens": usage[0] + usage[1]}}})
        if late:
            self.update(s, "agent_message_chunk", content={"type": "text", "text": "too late"})

    def check(self, s):
        if s.cancelled.is_set():
            raise fake.Gone

    def say(self, s, text, step, kind="agent_message_chunk"):
        for piece in script.pieces(text, step.big or step.chunk):
            if s.cancelled.wait(step.slow / 1000):
                raise fake.Gone
            self.update(s, kind, content={"type": "text", "text": piece})
            if kind == "agent_message_chunk":
                self.said.append(piece)

    def step(self, s, step):
        o = step.other
        text = self.before(step) + "".join(step.texts) + "x" * step.big
        if step.status:
            if step.status == 401:
                raise RpcError(-32000, "Authentication required")
            raise RpcError(-32603, f"Internal error: API Error: {step.status}", {"errorKind": "rate_limit" if step.status == 429 else "api_error"})
        if step.error:
            raise RpcError(-32603, step.error)
        for t in step.thoughts:
            self.say(s, t, step, "agent_thought_chunk")
        for entries in o.get("plan", []):
            self.update(s, "plan", entries=[{"content": e.strip(), "priority": "medium", "status": "completed" if i == 0 else "pending"}
                                            for i, e in enumerate(entries.split(";"))])
        for mode in o.get("mode", []):
            s.mode = mode
            self.update(s, "current_mode_update", currentModeId=mode)
        if text:
            self.say(s, text, step)
        self.instead(step)
        if step.hang is not None:
            s.cancelled.wait()
            raise fake.Gone
        for method in o.get("request", []):
            answer = self.ask_client(method, {"sessionId": s.sid, "path": "/etc/hostname"})
            self.say(s, "client said: " + json.dumps(answer.get("error") or answer.get("result")), step)
        for name, args in step.tools:
            if not self.use(s, step, name, args) and "reject-ends" in o:
                return "cancelled"
        if step.empty() and not text and not o:
            self.say(s, script.DEFAULT_TEXT, step)
        for cost in o.get("cost", []):
            s.cost += float(cost)
        if step.usage or o.get("cost"):
            used = sum((step.usage or [0])[:2])
            self.update(s, "usage_update", used=used, size=200000, cost={"amount": round(s.cost, 9), "currency": "USD"})
        return step.stop

    def ask_client(self, method, params, rid=None):
        if rid is None:
            rid = self.next_id
            self.next_id += 1
        key = json.dumps(rid)
        self.expect(key)
        self.send({"jsonrpc": "2.0", "id": rid, "method": method, "params": params})
        answer = self.wait_for(key)
        self.waiting.pop(key, None)
        return answer

    def use(self, s, step, name, args):
        """Asks where it must, does it, tells. False: rejected."""
        call = "call_" + fake.new_id()[:8]
        kind = fake.kind_of(name)
        path = args.get("path") or args.get("file_path")
        full = os.path.join(s.cwd, path) if path else None
        title = args.get("command") or f"{name} {path or ''}".strip()
        about = {"toolCallId": call, "title": title, "kind": kind, "rawInput": args, "locations": [{"path": full}] if full else []}
        if kind == "edit":
            about["content"] = [{"type": "diff", "path": full, "oldText": old_text(full), "newText": args.get("content", "")}]
        self.update(s, "tool_call", status="pending", **about)
        if fake.needs_asking(name, s.mode):
            for n in range(2 if "ask-twice" in step.other else 1):
                allowed = self.permission(s, step, about)
                self.check(s)
                if not allowed:
                    self.update(s, "tool_call_update", toolCallId=call, status="failed",
                                content=[{"type": "content", "content": {"type": "text", "text": "User refused permission to run tool"}}])
                    self.say(s, f"{name} was refused. ", step)
                    return False
        self.update(s, "tool_call_update", toolCallId=call, status="in_progress")
        ok, out = self.do_tool(name, args, s.cwd, s.cancelled)
        self.update(s, "tool_call_update", toolCallId=call, status="completed" if ok else "failed", rawOutput=out,
                    content=[{"type": "content", "content": {"type": "text", "text": out}}])
        self.check(s)
        self.say(s, f"tool said: {'OK' if ok else 'ERR'} {out[:300]}", step)
        return True

    def permission(self, s, step, about):
        kinds = ["allow_always", "reject_always"] if "no-once" in step.other else ["allow_always", "allow_once", "reject_once"]
        ids = step.other.get("ask-id")
        answer = self.ask_client("session/request_permission", {
            "sessionId": s.sid, "toolCall": about,
            "options": [{"optionId": f"opt-{i}", "name": k.replace("_", " "), "kind": k} for i, k in enumerate(kinds)]},
            json.loads(ids.pop(0)) if ids else None)
        outcome = (answer.get("result") or {}).get("outcome") or {}
        if outcome.get("outcome") != "selected":
            s.cancelled.set()
            return False
        return kinds[int(outcome["optionId"].removeprefix("opt-"))].startswith("allow")


class RpcError(Exception):
    def __init__(self, code, message, data=None):
        self.code, self.message, self.data = code, message, data


def old_text(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            return f.read()
    except (OSError, TypeError):
        return None


if __name__ == "__main__":
    fake.serve_forever(Agent)
