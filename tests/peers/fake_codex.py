#!/usr/bin/env python3
"""A stand-in for `codex app-server`: JSON lines without a "jsonrpc" member, as Codex 0.169 was
seen to write and take them. Markers: script.py, fake.py, and
    [[tool: exec_command {"cmd": ".."}]]   asks as item/commandExecution/requestApproval
    [[tool: write {"path": .., "content": ..}]]   as item/fileChange/requestApproval
    [[ask-id: J]] [[ask-twice]]   as in fake_acp.py      [[hidden: CMD]]  runs a command and tells nothing of it
    [[status: 401]]  turn/completed with status "failed" and codexErrorInfo, after a retry
    [[no-end]]       the turn ends without turn/completed
    [[sandbox]]      says which one its thread was begun with
    [[plan: A; B]]   turn/plan/updated"""
import json
import os
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import fake  # noqa: E402
import script  # noqa: E402


class Failed(Exception):
    def __init__(self, message, info):
        super().__init__(message)
        self.info = info


class Codex(fake.Fake):
    def __init__(self):
        super().__init__()
        if "app-server" not in sys.argv:
            print("the stand-in for codex knows only app-server and --version", file=sys.stderr)
            sys.exit(2)
        self.kept = fake.Sessions("fake-codex")
        self.threads, self.turns = {}, {}
        self.next_id, self.initialized = 0, False

    def on_garbage(self, line):
        print(f"Failed to deserialize JSONRPCMessage: {line[:40]!r}", file=sys.stderr, flush=True)

    def reply(self, rid, result):
        self.send({"id": rid, "result": result})

    def note(self, method, **params):
        self.send({"method": method, "params": params, "emittedAtMs": int(time.time() * 1000)})

    def on_message(self, m):
        if "method" not in m:
            self.answered(json.dumps(m.get("id")), m)
            return
        name, p, rid = m["method"], m.get("params") or {}, m.get("id")
        f = {"initialize": self.initialize, "initialized": lambda p: None, "thread/start": self.start, "thread/resume": self.resume,
             "turn/start": self.turn_start, "turn/interrupt": self.interrupt, "account/read": self.account,
             "model/list": lambda p: {"data": [{"id": "stand-in", "model": "stand-in", "displayName": "Stand-in", "isDefault": True}],
                                      "nextCursor": None}}.get(name)
        if f is None:
            return self.send({"error": {"code": -32600, "message": f"Invalid request: unknown variant `{name}`"}, "id": rid})
        if not self.initialized and name != "initialize":
            return self.send({"error": {"code": -32600, "message": "Not initialized"}, "id": rid})
        try:
            result, after = f(p), None
            if isinstance(result, tuple):
                result, after = result
            if rid is not None:
                self.reply(rid, result)
            if after:
                after()
        except (LookupError, KeyError) as e:
            self.send({"error": {"code": -32600, "message": str(e.args[0])}, "id": rid})

    def initialize(self, p):
        self.initialized = True
        return {"userAgent": f"{p['clientInfo']['name']}/{fake.VERSION}", "codexHome": self.kept.dir, "platformFamily": "unix",
                "platformOs": "linux"}

    def account(self, p):
        ok = bool(os.environ.get("OPENAI_API_KEY") or os.environ.get("CODEX_API_KEY"))
        return {"account": {"type": "apiKey"} if ok else None, "requiresOpenaiAuth": not ok}

    def opened(self, tid, p, total):
        t = {"id": tid, "cwd": p.get("cwd") or os.getcwd(), "approval": p.get("approvalPolicy", "on-request"),
             "sandbox": p.get("sandbox", "workspace-write"), "total": total}
        self.threads[tid] = t
        doc = {"id": tid, "preview": "", "cwd": t["cwd"], "status": {"type": "idle"}, "turns": []}
        return {"thread": doc, "model": p.get("model") or "stand-in", "modelProvider": "stand-in", "cwd": t["cwd"]}, \
            lambda: self.note("thread/started", thread=doc)

    def start(self, p):
        return self.opened(fake.new_id(), p, [0, 0, 0])

    def resume(self, p):
        doc = self.kept.load(p["threadId"])
        if doc is None:
            raise LookupError(f"no rollout found for thread id {p['threadId']}")
        return self.opened(p["threadId"], p, doc["total"])

    def turn_start(self, p):
        t = self.threads.get(p["threadId"])
        if t is None:
            raise LookupError(f"thread not found: {p['threadId']}")
        text = "\n".join(i.get("text", "") for i in p["input"])
        turn = {"id": fake.new_id(), "cancelled": threading.Event()}
        self.turns[turn["id"]] = turn
        return {"turn": self.turn_doc(turn["id"], "inProgress")}, lambda: self.in_thread(self.run_turn, t, turn, text)

    @staticmethod
    def turn_doc(turn_id, status, error=None):
        return {"id": turn_id, "items": [], "status": status, "error": error}

    def interrupt(self, p):
        turn = self.turns.get(p["turnId"])
        if turn is None:
            raise LookupError("no such turn")

        def after():
            turn["cancelled"].set()
            for key, q in list(self.waiting.items()):
                q.put({"result": {"decision": "cancel"}})
        return {}, after

    # --- a turn
    def run_turn(self, t, turn, text):
        self.note("turn/started", threadId=t["id"], turn=self.turn_doc(turn["id"], "inProgress"))
        status, error = "completed", None
        try:
            for step in script.parse(text):
                self.step(t, turn, step)
                if "no-end" in step.other:
                    return
        except fake.Gone:
            status = "interrupted"
        except Failed as e:
            status, error = "failed", {"message": str(e), "codexErrorInfo": e.info, "additionalDetails": None}
        self.kept.save(t["id"], {"total": t["total"]})
        self.note("thread/status/changed", threadId=t["id"], status={"type": "idle"})
        self.note("turn/completed", threadId=t["id"], turn=self.turn_doc(turn["id"], status, error))

    def item(self, t, turn, what, item):
        self.note("item/" + what, item=item, threadId=t["id"], turnId=turn["id"])

    def say(self, t, turn, step, text, kind="agentMessage"):
        iid = "msg_" + fake.new_id()[:8]
        method = "item/agentMessage/delta" if kind == "agentMessage" else "item/reasoning/summaryTextDelta"
        body = {"text": ""} if kind == "agentMessage" else {"summary": [], "content": []}
        self.item(t, turn, "started", {"type": kind, "id": iid, **body})
        for piece in script.pieces(text, step.big or step.chunk):
            if turn["cancelled"].wait(step.slow / 1000):
                raise fake.Gone
            self.note(method, threadId=t["id"], turnId=turn["id"], itemId=iid, delta=piece, **({} if kind == "agentMessage" else {"summaryIndex": 0}))
        body = {"text": text} if kind == "agentMessage" else {"summary": [text], "content": []}
        self.item(t, turn, "completed", {"type": kind, "id": iid, **body})

    def step(self, t, turn, step):
        o = step.other
        text = self.before(step) + "".join(step.texts) + "x" * step.big
        if "sandbox" in o:
            text += t["sandbox"]
        if step.status:
            self.fail(t, turn, step.status)
        for entries in o.get("plan", []):
            self.note("turn/plan/updated", threadId=t["id"], turnId=turn["id"], explanation=None, plan=[
                {"step": e.strip(), "status": "completed" if i == 0 else "pending"} for i, e in enumerate(entries.split(";"))])
        for thought in step.thoughts:
            self.say(t, turn, step, thought, "reasoning")
        if text:
            self.say(t, turn, step, text)
        self.instead(step)
        if step.hang is not None:
            turn["cancelled"].wait()
            raise fake.Gone
        for cmd in o.get("hidden", []):
            self.shell(cmd, t["cwd"], turn["cancelled"])
        for name, args in step.tools:
            self.use(t, turn, step, name, args)
        if step.empty() and not text:
            self.say(t, turn, step, script.DEFAULT_TEXT)
        got = (step.usage or [100, 10, 0]) + [0, 0, 0]
        t["total"] = [a + b for a, b in zip(t["total"], got)]
        self.note("thread/tokenUsage/updated", threadId=t["id"], turnId=turn["id"], tokenUsage={
            "total": self.usage(t["total"]), "last": self.usage(got), "modelContextWindow": 200000})
        if step.error:
            raise Failed(step.error, "other")

    @staticmethod
    def usage(n):
        return {"totalTokens": n[0] + n[1], "inputTokens": n[0], "cachedInputTokens": n[2], "outputTokens": n[1], "reasoningOutputTokens": 0}

    def fail(self, t, turn, status):
        info = {"responseTooManyFailedAttempts": {"httpStatusCode": status}} if status == 429 else {"httpConnectionFailed": {"httpStatusCode": status}}
        if status == 500:
            info = "internalServerError"
        if status != 429:
            self.note("error", threadId=t["id"], turnId=turn["id"], willRetry=True, error={
                "message": "Reconnecting... 1/1", "codexErrorInfo": {"responseStreamDisconnected": {"httpStatusCode": status}},
                "additionalDetails": None})
        message = f"unexpected status {status}: stand-in says {status}"
        self.note("error", threadId=t["id"], turnId=turn["id"], willRetry=False, error={
            "message": message, "codexErrorInfo": info, "additionalDetails": None})
        raise Failed(message, info)

    def use(self, t, turn, step, name, args):
        iid = "call_" + fake.new_id()[:8]
        command = args.get("cmd") or args.get("command")
        path = args.get("path") or args.get("file_path")
        if command is not None:
            item = {"type": "commandExecution", "id": iid, "command": command, "cwd": t["cwd"], "aggregatedOutput": None, "exitCode": None}
            method = "item/commandExecution/requestApproval"
            ask = {"command": command, "cwd": t["cwd"], "reason": args.get("justification")}
        else:
            full = os.path.join(t["cwd"], path or "")
            item = {"type": "fileChange", "id": iid, "changes": [
                {"path": full, "kind": {"type": "update" if os.path.exists(full) else "add"}, "diff": args.get("content", "")}]}
            method, ask = "item/fileChange/requestApproval", {"reason": None, "grantRoot": None}
        self.item(t, turn, "started", {**item, "status": "inProgress"})
        decision = "accept"
        if t["approval"] != "never":
            for _ in range(2 if "ask-twice" in step.other else 1):
                decision = self.approval(t, turn, step, method, {"threadId": t["id"], "turnId": turn["id"], "itemId": iid, **ask})
        if decision not in ("accept", "acceptForSession"):
            self.item(t, turn, "completed", {**item, "status": "declined"})
            if decision == "cancel":
                raise fake.Gone
            return self.say(t, turn, step, "tool said: ERR rejected by user")
        ok, out = self.do_tool("bash" if command is not None else "write", {"command": command, **args}, t["cwd"], turn["cancelled"])
        if command is not None and out:
            self.note("item/commandExecution/outputDelta", threadId=t["id"], turnId=turn["id"], itemId=iid, delta=out)
            item.update(aggregatedOutput=out, exitCode=0 if ok else 1)
        self.item(t, turn, "completed", {**item, "status": "completed" if ok else "failed"})
        if turn["cancelled"].is_set():
            raise fake.Gone
        self.say(t, turn, step, f"tool said: {'OK' if ok else 'ERR'} {out[:300]}")

    def approval(self, t, turn, step, method, params):
        ids = step.other.get("ask-id")
        rid = json.loads(ids.pop(0)) if ids else self.next_id
        self.next_id += 0 if ids is not None else 1
        key = json.dumps(rid)
        self.expect(key)
        self.note("thread/status/changed", threadId=t["id"], status={"type": "active", "activeFlags": ["waitingOnApproval"]})
        self.send({"method": method, "id": rid, "params": params})
        answer = self.wait_for(key)
        self.waiting.pop(key, None)
        self.note("serverRequest/resolved", threadId=t["id"], requestId=rid)
        decision = (answer.get("result") or {}).get("decision", "decline")
        return decision if isinstance(decision, str) else "accept"


if __name__ == "__main__":
    fake.serve_forever(Codex)
