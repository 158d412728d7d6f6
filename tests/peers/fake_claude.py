#!/usr/bin/env python3
"""A stand-in for `claude` with --input-format stream-json --output-format stream-json: the
messages and control requests that Claude Code 2.1 was seen to write and to take. Options it
knows: --resume, --session-id, --model, --permission-mode, --max-turns, --max-budget-usd,
--include-partial-messages, --version; others are ignored. Markers: script.py, fake.py, and
    [[ask-twice]]    asks the same permission again      [[cost: USD]]   of this turn
    [[withdraw]]     takes its question back after asking it
    [[status: 401]]  as an API error: is_error true, subtype "success", exit status 1
    [[subtype: S]]   subtype of the result               [[no-result]]   the turn ends without one
    [[mute-result]]  with one that does not say whether it failed
Without ANTHROPIC_API_KEY it is not logged in, unless HOME/.fake-claude/login is there."""
import os
import signal
import sys
import threading

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import fake  # noqa: E402
import script  # noqa: E402

OPTIONS = {"--resume", "--session-id", "--model", "--permission-mode", "--max-turns", "--max-budget-usd", "--input-format",
           "--output-format", "--permission-prompt-tool", "--mcp-config", "--settings", "--setting-sources", "--add-dir",
           "--allowedTools", "--disallowedTools", "--append-system-prompt", "--system-prompt"}


def options():
    got, a, i = {}, sys.argv[1:], 0
    while i < len(a):
        name, eq, value = a[i].partition("=")
        if eq:
            got[name] = value
        elif name in OPTIONS and i + 1 < len(a):
            got[name] = a[i + 1]
            i += 1
        else:
            got[name] = True
        i += 1
    return got


class Claude(fake.Fake):
    def __init__(self):
        super().__init__()
        self.o = options()
        self.kept = fake.Sessions("fake-claude")
        self.mode = self.o.get("--permission-mode", "default")
        self.model = self.o.get("--model", "stand-in")
        self.sid = self.o.get("--resume") or self.o.get("--session-id") or fake.new_id()
        self.doc = {"cost": 0.0, "turns": []}
        self.cancelled = threading.Event()
        self.turn = None
        self.failed = self.begun = False
        self.ended = threading.Event()
        signal.signal(signal.SIGINT, self.on_sigint)
        if self.mode == "bypassPermissions" and os.getuid() == 0:
            print("--dangerously-skip-permissions cannot be used with root/sudo privileges for security reasons", file=sys.stderr)
            sys.exit(1)
        if self.o.get("--resume"):
            self.doc = self.kept.load(self.sid)
            if self.doc is None:
                why = f"No conversation found with session ID: {self.sid}"
                print(why, file=sys.stderr)
                self.doc = {"cost": 0.0, "turns": []}
                self.result(subtype="error_during_execution", is_error=True, errors=[why])
                sys.exit(1)

    # --- what comes
    def on_message(self, m):
        kind = m.get("type")
        if kind == "control_request":
            self.control(m.get("request_id"), m.get("request") or {})
        elif kind == "control_response":
            r = m.get("response") or {}
            self.answered(r.get("request_id"), r)
        elif kind == "user":
            content = m["message"]["content"]
            text = content if isinstance(content, str) else "\n".join(b.get("text", "") for b in content)
            self.ended.clear()
            self.turn = text
            self.in_thread(self.answer, text)

    def on_garbage(self, line):
        print(f"Error parsing streaming input line (type=unknown, {len(line)} chars): SyntaxError", file=sys.stderr)
        os._exit(1)

    def on_end(self):
        if self.turn is not None:
            self.ended.wait()
        if self.ignore_end:
            threading.Event().wait()
        self.kill_children()
        os._exit(1 if self.failed else 0)

    def on_sigint(self, *_):
        self.interrupt()
        if self.turn is not None:
            self.ended.wait(5)
        os._exit(0)

    def interrupt(self):
        self.cancelled.set()
        for key, q in list(self.waiting.items()):
            self.send({"type": "control_cancel_request", "request_id": key})
            q.put({"subtype": "cancelled"})

    def control(self, rid, r):
        sub = r.get("subtype")
        answers = {"initialize": {"commands": [], "models": [{"value": "stand-in"}], "output_style": "default"},
                   "interrupt": {"still_queued": []}, "set_permission_mode": {"mode": r.get("mode")}, "set_model": {}}
        if sub not in answers:
            return self.send({"type": "control_response", "response": {
                "subtype": "error", "request_id": rid, "error": f"Unsupported control request subtype: {sub}"}})
        if sub == "set_permission_mode":
            self.mode = r.get("mode")
        if sub == "interrupt" and self.turn is not None:
            self.interrupt()
        self.send({"type": "control_response", "response": {"subtype": "success", "request_id": rid, "response": answers[sub]}})

    # --- what it says
    def tell(self, kind, **more):
        self.send({"type": kind, **more, "session_id": self.sid, "uuid": fake.new_id()})

    def message(self, block, **more):
        self.tell("assistant", message={"id": self.mid, "type": "message", "role": "assistant", "model": self.model, "content": [block],
                                        "stop_reason": None, "usage": self.usage}, parent_tool_use_id=None, **more)

    def result(self, **more):
        # The costs and the usage of models are those of the whole session, the usage that of this turn.
        doc = {"subtype": "success", "is_error": False, "duration_ms": 1, "num_turns": 1, "total_cost_usd": round(self.doc["cost"], 9),
               "usage": getattr(self, "usage", {}), "modelUsage": {}, "permission_denials": [], **more}
        if self.begun:
            sums = self.doc.setdefault("sums", [0, 0, 0])
            doc["modelUsage"] = {self.model: {"inputTokens": sums[0], "outputTokens": sums[1], "cacheReadInputTokens": sums[2],
                                              "cacheCreationInputTokens": 0, "costUSD": doc["total_cost_usd"], "contextWindow": 200000}}
        self.failed = doc["is_error"]
        self.tell("result", **doc)

    def answer(self, text):
        self.cancelled.clear()
        self.mid = "msg_" + fake.new_id()[:8]
        self.usage = {"input_tokens": 0, "output_tokens": 0, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0}
        self.denied, self.said, turns = [], "", 0
        self.begun = True
        self.tell("system", subtype="init", cwd=os.getcwd(), tools=["Write", "Read", "Edit", "Bash"], mcp_servers=[], model=self.model,
                  permissionMode=self.mode, apiKeySource="ANTHROPIC_API_KEY" if os.environ.get("ANTHROPIC_API_KEY") else "none",
                  claude_code_version=fake.VERSION)
        more = {}
        try:
            if not os.environ.get("ANTHROPIC_API_KEY") and not os.path.exists(os.path.join(self.kept.dir, "login")):
                more = self.api_error(None, "Not logged in · Please run /login")
            else:
                limit = int(self.o.get("--max-turns", 0))
                for step in script.parse(text):
                    if limit and turns >= limit:
                        more = {"subtype": "error_max_turns", "is_error": True, "terminal_reason": "max_turns", "errors": ["Reached maximum number of turns"]}
                        break
                    turns += 1
                    more = self.step(step)
                    if more:
                        break
        except fake.Gone:
            more = {"subtype": "error_during_execution", "is_error": True, "terminal_reason": "aborted_streaming",
                    "errors": ["Request was aborted."]}
        self.doc["turns"].append([text, self.said])
        if not more.get("api_error_status"):
            self.kept.save(self.sid, self.doc)
        if not more.pop("no_result", False):
            self.result(**{"num_turns": turns, "result": self.said, "terminal_reason": "completed", "permission_denials": self.denied, **more})
        self.turn = None
        self.ended.set()

    def api_error(self, status, text):
        self.message({"type": "text", "text": text}, error="authentication_failed" if status in (None, 401) else "unknown",
                     is_api_error_message=True, api_error_status=status)
        return {"is_error": True, "api_error_status": status, "result": text, "terminal_reason": "api_error"}

    def say(self, text, step, thinking=False):
        part = bool(self.o.get("--include-partial-messages"))
        kind = "thinking" if thinking else "text"
        for piece in script.pieces(text, step.big or step.chunk):
            if self.cancelled.wait(step.slow / 1000):
                raise fake.Gone
            if part:
                self.tell("stream_event", event={"type": "content_block_delta", "index": 0, "delta": {"type": kind + "_delta", kind: piece}},
                          parent_tool_use_id=None)
        self.message({"type": kind, kind: text})
        if not thinking:
            self.said = text

    def step(self, step):
        o = step.other
        text = self.before(step) + "".join(step.texts) + "x" * step.big
        if step.status:
            kinds = {401: "authentication_failed", 429: "rate_limit", 529: "overloaded"}
            self.tell("system", subtype="api_retry", attempt=1, max_retries=1, retry_delay_ms=1, error_status=step.status,
                      error=kinds.get(step.status, "server_error"))
            return self.api_error(step.status, f"API Error: {step.status} stand-in says {step.status}")
        got = (step.usage or [100, 10, 0]) + [0, 0, 0]
        for key, n in zip(("input_tokens", "output_tokens", "cache_read_input_tokens"), got):
            self.usage[key] += n
        self.doc["sums"] = [a + b for a, b in zip(self.doc.get("sums", [0, 0, 0]), got)]
        self.doc["cost"] += sum(float(c) for c in o.get("cost", ["0.001"]))
        for t in step.thoughts:
            self.say(t, step, thinking=True)
        if text:
            self.say(text, step)
        self.instead(step)
        if step.hang is not None:
            self.cancelled.wait()
            raise fake.Gone
        for name, args in step.tools:
            stopped = self.use(step, name, args)
            if stopped:
                return stopped
        if step.empty() and not text:
            self.say(script.DEFAULT_TEXT, step)
        budget = float(self.o.get("--max-budget-usd", 0) or 0)
        if budget and self.doc["cost"] > budget:
            return {"subtype": "error_max_budget_usd", "is_error": True, "terminal_reason": "budget_exhausted",
                    "errors": [f"Reached maximum budget (${budget})"]}
        if "no-result" in o:
            return {"no_result": True}
        if "mute-result" in o:
            return {"is_error": "no"}
        if "subtype" in o:
            return {"subtype": o["subtype"][0], "is_error": o["subtype"][0] != "success"}
        return {"is_error": True, "result": step.error} if step.error else {}

    def use(self, step, name, args):
        use = "toolu_" + fake.new_id()[:8]
        self.message({"type": "tool_use", "id": use, "name": name, "input": args})
        verdict = {"behavior": "allow", "updatedInput": args}
        if fake.needs_asking(name, self.mode):
            for _ in range(2 if "ask-twice" in step.other else 1):
                verdict = self.ask(step, use, name, args)
                if self.cancelled.is_set():
                    self.tool_result(use, "The tool use was rejected", True)
                    raise fake.Gone
        if verdict.get("behavior") != "allow":
            self.denied.append({"tool_name": name, "tool_use_id": use, "tool_input": args})
            self.tool_result(use, verdict.get("message", "denied"), True)
            if verdict.get("interrupt"):
                return {"subtype": "error_during_execution", "is_error": True, "terminal_reason": "aborted_tools"}
            self.say(f"tool said: ERR {verdict.get('message', 'denied')}", step)
            return None
        ok, out = self.do_tool(name, verdict.get("updatedInput") or args, os.getcwd(), self.cancelled)
        if self.cancelled.is_set():
            raise fake.Gone
        self.tool_result(use, out, not ok)
        self.say(f"tool said: {'OK' if ok else 'ERR'} {out[:300]}", step)
        return None

    def tool_result(self, use, text, is_error):
        self.tell("user", message={"role": "user", "content": [{"type": "tool_result", "tool_use_id": use, "content": text, "is_error": is_error}]},
                  parent_tool_use_id=None, tool_use_result=text)

    def ask(self, step, use, name, args):
        rid = fake.new_id()
        self.expect(rid)
        self.send({"type": "control_request", "request_id": rid, "request": {
            "subtype": "can_use_tool", "tool_name": name, "display_name": name, "input": args, "tool_use_id": use,
            "description": args.get("file_path") or args.get("command") or "", "permission_suggestions": []}})
        if "withdraw" in step.other:
            self.send({"type": "control_cancel_request", "request_id": rid})
            self.waiting.pop(rid, None)
            return {"behavior": "deny", "message": "withdrawn"}
        answer = self.wait_for(rid)
        self.waiting.pop(rid, None)
        if answer.get("subtype") == "success":
            return answer.get("response") or {}
        return {"behavior": "deny", "message": answer.get("error", "no answer")}


if __name__ == "__main__":
    fake.serve_forever(Claude)
