"""How the model APIs look on the wire, for models.py: each class reads a request into an Ask
and writes an answer's blocks as a stream's frames or as a whole. A frame is (kind, bytes);
kind is head, piece (what is slowed down, cut and counted), body, or end (the closing event)."""
import base64
import itertools
import json
import time

import script

counter = itertools.count(1)
USAGE = (1000, 50, 300)  # input, output, cached


class Ask:
    """A request, whichever API it came by."""

    def __init__(self, model, stream):
        self.model, self.stream = model, stream
        self.turns = []  # ["user", text, [(is_error, text)]] or ["assistant"]
        self.tools = {}  # name -> type
        self.images, self.files = [], []
        self.system, self.schema, self.more = "", None, {}

    def user(self, text="", results=()):
        if not self.turns or self.turns[-1][0] != "user":
            self.turns.append(["user", "", []])
        self.turns[-1][1] += ("\n" if self.turns[-1][1] and text else "") + text
        self.turns[-1][2] += results

    def assistant(self):
        if not self.turns or self.turns[-1][0] != "assistant":
            self.turns.append(["assistant"])

    def prompt(self):
        """(text of the newest prompt, how often the model has answered since)."""
        rounds = 0
        for t in reversed(self.turns):
            if t[0] == "assistant":
                rounds += 1
            elif not t[2] or "[[" in t[1]:
                return t[1], rounds
        return "", rounds

    def step(self):
        text, rounds = self.prompt()
        steps = script.parse(text)
        return steps[rounds] if rounds < len(steps) else script.Step()

    def blocks(self, step):
        out = [("think", t) for t in step.thoughts] + [("text", t) for t in step.texts]
        if step.big:
            out.append(("text", "x" * step.big))
        if step.echo:
            out.append(("text", json.dumps({"model": self.model, "system": self.system, "tools": sorted(self.tools), "images": self.images,
                                            "files": self.files, "schema": self.schema, "prompt": self.prompt()[0], **self.more})))
        for name, args in step.tools:
            if name in self.tools:
                out.append(("tool", name, args, f"call_{next(counter)}"))
            else:
                out.append(("text", f"there is no tool {name}"))
        if step.empty():
            results = self.turns[-1][2] if self.turns and self.turns[-1][0] == "user" else []
            if self.schema:
                out.append(("text", json.dumps(script.instance(self.schema))))
            elif results:
                out.append(("text", "tool said: " + " | ".join(("ERR " if bad else "OK ") + t for bad, t in results)[:400]))
            else:
                out.append(("text", script.DEFAULT_TEXT))
        return out

    def image(self, media, data):
        try:
            n = len(base64.b64decode(data, validate=True))
        except ValueError:
            n = -1
        self.images.append({"media_type": media, "bytes": n})

    def data_url(self, url):
        head, _, data = url.partition(",")
        self.image(head.removeprefix("data:").split(";")[0], data)


def usage_of(step):
    u = (step.usage or []) + list(USAGE)[len(step.usage or []):]
    return u[0], u[1], u[2]


def text_of(content):
    if isinstance(content, str):
        return content
    return "\n".join(b.get("text", "") for b in content or [] if isinstance(b, dict))


def sse(doc, event=None):
    return ((f"event: {event}\n" if event else "") + f"data: {json.dumps(doc)}\n\n").encode()


class Api:
    content_type = "text/event-stream"
    junk = b"data: {this is no JSON\n\n"

    @staticmethod
    def model(body, path):
        return body.get("model", "")


class Anthropic(Api):
    @staticmethod
    def error(status, message):
        kind = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
                413: "request_too_large", 429: "rate_limit_error", 529: "overloaded_error"}.get(status, "api_error")
        return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_stand_in"}

    @classmethod
    def error_event(cls, message):
        return sse(cls.error(529, message), "error")

    @staticmethod
    def read(body, path):
        a = Ask(body.get("model", ""), bool(body.get("stream")))
        a.system = text_of(body.get("system") or "")
        a.tools = {t.get("name", t.get("type", "")): "function" for t in body.get("tools") or []}
        a.schema = ((body.get("output_config") or {}).get("format") or body.get("output_format") or {}).get("schema")
        a.more = {"max_tokens": body.get("max_tokens")}
        for m in body.get("messages", []):
            if m.get("role") == "assistant":
                a.assistant()
            elif m.get("role") == "user":
                content = m.get("content")
                blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
                for b in blocks:
                    if b.get("type") == "tool_result":
                        a.user(results=[(bool(b.get("is_error")), text_of(b.get("content")))])
                    elif b.get("type") in ("image", "document"):
                        src = b.get("source", {})
                        if b["type"] == "image":
                            a.image(src.get("media_type"), src.get("data", ""))
                        else:
                            a.files.append(src.get("media_type"))
                    else:
                        a.user(b.get("text", ""))
        return a

    @staticmethod
    def message(ask, step):
        i, o, cached = usage_of(step)
        return {"id": f"msg_{next(counter)}", "type": "message", "role": "assistant", "model": ask.model, "content": [], "stop_reason": None,
                "stop_sequence": None, "usage": {"input_tokens": i, "cache_creation_input_tokens": 200, "cache_read_input_tokens": cached,
                                                 "output_tokens": 1}}

    @staticmethod
    def stop(step, blocks):
        return step.stop or ("tool_use" if any(b[0] == "tool" for b in blocks) else "end_turn")

    @classmethod
    def whole(cls, ask, step, blocks):
        m = cls.message(ask, step)
        for b in blocks:
            m["content"].append({"type": "text", "text": b[1]} if b[0] == "text" else
                                {"type": "thinking", "thinking": b[1], "signature": "c2ln"} if b[0] == "think" else
                                {"type": "tool_use", "id": "toolu_" + b[3], "name": b[1], "input": b[2]})
        m["stop_reason"] = cls.stop(step, blocks)
        m["usage"]["output_tokens"] = usage_of(step)[1]
        return m

    @classmethod
    def frames(cls, ask, step, blocks):
        def ev(kind, type_, **more):
            return kind, sse({"type": type_, **more}, type_)
        yield ev("head", "message_start", message=cls.message(ask, step))
        yield ev("head", "ping")
        for i, b in enumerate(blocks):
            if b[0] == "tool":
                yield ev("body", "content_block_start", index=i, content_block={"type": "tool_use", "id": "toolu_" + b[3], "name": b[1], "input": {}})
                for p in script.pieces(json.dumps(b[2]), max(step.chunk, 1) * 4):
                    yield ev("piece", "content_block_delta", index=i, delta={"type": "input_json_delta", "partial_json": p})
            else:
                key, delta = ("text", "text_delta") if b[0] == "text" else ("thinking", "thinking_delta")
                start = {"type": key, key: ""} if key == "text" else {"type": key, key: "", "signature": ""}
                yield ev("body", "content_block_start", index=i, content_block=start)
                for p in script.pieces(b[1], step.big or step.chunk):
                    yield ev("piece", "content_block_delta", index=i, delta={"type": delta, key: p})
                if b[0] == "think":
                    yield ev("body", "content_block_delta", index=i, delta={"type": "signature_delta", "signature": "c2ln"})
            yield ev("body", "content_block_stop", index=i)
        yield ev("body", "message_delta", delta={"stop_reason": cls.stop(step, blocks), "stop_sequence": None},
                 usage={"output_tokens": usage_of(step)[1]})
        yield ev("end", "message_stop")


class OpenAI(Api):
    """chat/completions, also of Z.AI, which always tells the usage."""

    @staticmethod
    def error(status, message):
        kind = {401: "invalid_request_error", 404: "invalid_request_error", 429: "rate_limit_error"}.get(status, "api_error")
        code = {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded"}.get(status)
        return {"error": {"message": message, "type": kind, "param": None, "code": code}}

    @classmethod
    def error_event(cls, message):
        return sse(cls.error(500, message))

    @staticmethod
    def read(body, path):
        a = Ask(body.get("model", ""), bool(body.get("stream")))
        a.tools = {t["function"]["name"]: "function" for t in body.get("tools") or [] if t.get("type") == "function"}
        fmt = body.get("response_format") or {}
        a.schema = (fmt.get("json_schema") or {}).get("schema") or ({"type": "object"} if fmt.get("type") == "json_object" else None)
        a.more = {"max_tokens": body.get("max_tokens") or body.get("max_completion_tokens")}
        a.always_usage = "/paas/" in path
        a.tell_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        for m in body.get("messages", []):
            if m.get("role") in ("system", "developer"):
                a.system += text_of(m.get("content"))
            elif m.get("role") == "assistant":
                a.assistant()
            elif m.get("role") == "tool":
                a.user(results=[(False, text_of(m.get("content")))])
            else:
                a.user(text_of(m.get("content")))
                for b in m.get("content") if isinstance(m.get("content"), list) else []:
                    if b.get("type") == "image_url":
                        a.data_url(b["image_url"]["url"])
                    elif b.get("type") == "file":
                        a.files.append(b["file"].get("filename"))
        return a

    @staticmethod
    def usage(step):
        i, o, cached = usage_of(step)
        return {"prompt_tokens": i, "completion_tokens": o, "total_tokens": i + o, "prompt_tokens_details": {"cached_tokens": cached},
                "completion_tokens_details": {"reasoning_tokens": 10}}

    @staticmethod
    def finish(step, blocks):
        return step.stop or ("tool_calls" if any(b[0] == "tool" for b in blocks) else "stop")

    @classmethod
    def whole(cls, ask, step, blocks):
        m = {"role": "assistant", "content": "".join(b[1] for b in blocks if b[0] == "text") or None}
        if any(b[0] == "think" for b in blocks):
            m["reasoning_content"] = "".join(b[1] for b in blocks if b[0] == "think")
        calls = [{"id": b[3], "type": "function", "function": {"name": b[1], "arguments": json.dumps(b[2])}} for b in blocks if b[0] == "tool"]
        if calls:
            m["tool_calls"] = calls
        return {"id": f"chatcmpl-{next(counter)}", "object": "chat.completion", "created": int(time.time()), "model": ask.model,
                "choices": [{"index": 0, "message": m, "finish_reason": cls.finish(step, blocks)}], "usage": cls.usage(step)}

    @classmethod
    def frames(cls, ask, step, blocks):
        base = {"id": f"chatcmpl-{next(counter)}", "object": "chat.completion.chunk", "created": int(time.time()), "model": ask.model}

        def delta(kind, d, finish=None, **more):
            return kind, sse({**base, "choices": [{"index": 0, "delta": d, "finish_reason": finish}], **more})
        yield delta("head", {"role": "assistant", "content": ""})
        n = 0
        for b in blocks:
            if b[0] == "tool":
                call = {"index": n, "id": b[3], "type": "function", "function": {"name": b[1], "arguments": ""}}
                yield delta("body", {"tool_calls": [call]})
                for p in script.pieces(json.dumps(b[2]), max(step.chunk, 1) * 4):
                    yield delta("piece", {"tool_calls": [{"index": n, "function": {"arguments": p}}]})
                n += 1
            else:
                for p in script.pieces(b[1], step.big or step.chunk):
                    yield delta("piece", {"content" if b[0] == "text" else "reasoning_content": p})
        yield delta("end", {}, cls.finish(step, blocks), **({"usage": cls.usage(step)} if ask.always_usage else {}))
        if ask.tell_usage and not ask.always_usage:
            yield "end", sse({**base, "choices": [], "usage": cls.usage(step)})
        yield "end", b"data: [DONE]\n\n"


class Responses(OpenAI):
    @classmethod
    def error_event(cls, message):
        return sse({"type": "response.failed", "response": {"id": "resp_failed", "status": "failed", "error": {"code": "server_error", "message": message}}},
                   "response.failed")

    @staticmethod
    def read(body, path):
        a = Ask(body.get("model", ""), bool(body.get("stream")))
        a.system = body.get("instructions") or ""
        for t in body.get("tools") or []:
            for inner in t.get("tools") or [t]:
                name = inner.get("name") or inner.get("type", "")
                full = f"{t['name']}.{name}" if t.get("tools") and t.get("name") else name
                a.tools[full] = inner.get("type", "function")
        fmt = (body.get("text") or {}).get("format") or {}
        a.schema = fmt.get("schema")
        items = body.get("input")
        for it in [{"role": "user", "content": items}] if isinstance(items, str) else items or []:
            kind = it.get("type") or "message"
            if kind.endswith("_output"):
                out = it.get("output")
                a.user(results=[(False, out if isinstance(out, str) else json.dumps(out))])
            elif kind != "message" or it.get("role") == "assistant":
                a.assistant()
            elif it.get("role") == "user":
                a.user(text_of(it.get("content")))
                for b in it.get("content") if isinstance(it.get("content"), list) else []:
                    if b.get("type") == "input_image":
                        a.data_url(b.get("image_url", ""))
                    elif b.get("type") == "input_file":
                        a.files.append(b.get("filename"))
            else:
                a.system += text_of(it.get("content"))
        return a

    @staticmethod
    def response(ask, rid, status, output, step=None):
        r = {"id": rid, "object": "response", "created_at": int(time.time()), "model": ask.model, "status": status, "output": output}
        if step:
            i, o, cached = usage_of(step)
            r["usage"] = {"input_tokens": i, "input_tokens_details": {"cached_tokens": cached}, "output_tokens": o,
                          "output_tokens_details": {"reasoning_tokens": 10}, "total_tokens": i + o}
        return r

    @staticmethod
    def item(ask, b):
        n = next(counter)
        if b[0] == "text":
            return {"id": f"msg_{n}", "type": "message", "role": "assistant", "status": "completed",
                    "content": [{"type": "output_text", "text": b[1], "annotations": []}]}
        if b[0] == "think":
            return {"id": f"rs_{n}", "type": "reasoning", "summary": [{"type": "summary_text", "text": b[1]}]}
        name = b[1].split(".", 1)
        ns = {"namespace": name[0]} if len(name) > 1 else {}
        if ask.tools[b[1]] == "custom":
            return {"id": f"ctc_{n}", "type": "custom_tool_call", "status": "completed", "call_id": b[3], **ns, "name": name[-1],
                    "input": b[2].get("input", "")}
        return {"id": f"fc_{n}", "type": "function_call", "status": "completed", "call_id": b[3], **ns, "name": name[-1],
                "arguments": json.dumps(b[2])}

    @classmethod
    def whole(cls, ask, step, blocks):
        return cls.response(ask, f"resp_{next(counter)}", "completed", [cls.item(ask, b) for b in blocks], step)

    @classmethod
    def frames(cls, ask, step, blocks):
        seq = itertools.count()
        rid = f"resp_{next(counter)}"

        def ev(kind, type_, **more):
            return kind, sse({"type": type_, "sequence_number": next(seq), **more}, type_)
        yield ev("head", "response.created", response=cls.response(ask, rid, "in_progress", []))
        out = []
        for i, b in enumerate(blocks):
            it = cls.item(ask, b)
            out.append(it)
            if b[0] == "text":
                where = {"item_id": it["id"], "output_index": i, "content_index": 0}
                yield ev("body", "response.output_item.added", output_index=i, item={**it, "status": "in_progress", "content": []})
                yield ev("body", "response.content_part.added", **where, part={"type": "output_text", "text": "", "annotations": []})
                for p in script.pieces(b[1], step.big or step.chunk):
                    yield ev("piece", "response.output_text.delta", **where, delta=p)
                yield ev("body", "response.output_text.done", **where, text=b[1])
            elif b[0] == "think":
                where = {"item_id": it["id"], "output_index": i, "summary_index": 0}
                yield ev("body", "response.output_item.added", output_index=i, item={**it, "summary": []})
                for p in script.pieces(b[1], step.chunk):
                    yield ev("piece", "response.reasoning_summary_text.delta", **where, delta=p)
                yield ev("body", "response.reasoning_summary_text.done", **where, text=b[1])
            else:
                yield ev("piece", "response.output_item.added", output_index=i, item={**it, "status": "in_progress"})
            yield ev("body", "response.output_item.done", output_index=i, item=it)
        yield ev("end", "response.completed", response=cls.response(ask, rid, "completed", out, step))


class Gemini(Api):
    junk = b"data: {this is no JSON\r\n\r\n"

    @staticmethod
    def model(body, path):
        return path.rsplit("/", 1)[-1].split(":")[0]

    @staticmethod
    def error(status, message):
        word = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED",
                500: "INTERNAL"}.get(status, "UNAVAILABLE")
        return {"error": {"code": status, "message": message, "status": word}}

    @classmethod
    def error_event(cls, message):
        return sse(cls.error(503, message)).replace(b"\n\n", b"\r\n\r\n")

    @classmethod
    def read(cls, body, path):
        a = Ask(cls.model(body, path), ":stream" in path)
        a.system = text_of((body.get("systemInstruction") or body.get("system_instruction") or {}).get("parts"))
        a.tools = {f["name"]: "function" for t in body.get("tools") or [] for f in t.get("functionDeclarations") or []}
        g = body.get("generationConfig") or {}
        a.schema = g.get("responseJsonSchema") or g.get("responseSchema") or ({"type": "object"} if g.get("responseMimeType") == "application/json" else None)
        a.more = {"max_tokens": g.get("maxOutputTokens")}
        for c in body.get("contents", []):
            if c.get("role") == "model":
                a.assistant()
                continue
            for p in c.get("parts", []):
                inline = p.get("inlineData") or p.get("inline_data")
                if "functionResponse" in p:
                    r = p["functionResponse"].get("response", {})
                    a.user(results=[("error" in r, json.dumps(r))])
                elif inline:
                    media = inline.get("mimeType") or inline.get("mime_type")
                    a.image(media, inline.get("data", "")) if media.startswith("image/") else a.files.append(media)
                else:
                    a.user(p.get("text", ""))
        return a

    @staticmethod
    def part(b):
        if b[0] == "tool":
            return {"functionCall": {"id": b[3], "name": b[1], "args": b[2]}}
        return {"text": b[1], "thought": True} if b[0] == "think" else {"text": b[1]}

    @classmethod
    def chunk(cls, ask, parts, step=None):
        c = {"content": {"role": "model", "parts": parts}, "index": 0}
        doc = {"candidates": [c], "modelVersion": ask.model, "responseId": f"resp_{next(counter)}"}
        if step:
            i, o, cached = usage_of(step)
            c["finishReason"] = step.stop or "STOP"
            doc["usageMetadata"] = {"promptTokenCount": i, "candidatesTokenCount": o, "totalTokenCount": i + o + 20,
                                    "cachedContentTokenCount": cached, "thoughtsTokenCount": 20}
        return doc

    @classmethod
    def whole(cls, ask, step, blocks):
        return cls.chunk(ask, [cls.part(b) for b in blocks], step)

    @classmethod
    def frames(cls, ask, step, blocks):
        def ev(kind, doc):
            return kind, b"data: " + json.dumps(doc).encode() + b"\r\n\r\n"
        for b in blocks:
            for p in script.pieces(b[1], step.big or step.chunk) if b[0] != "tool" else [None]:
                yield ev("piece", cls.chunk(ask, [cls.part(b if p is None else (b[0], p))]))
        yield ev("end", cls.chunk(ask, [{"text": ""}], step))


class Ollama(Api):
    content_type = "application/x-ndjson"
    junk = b"{this is no JSON\n"

    @staticmethod
    def error(status, message):
        return {"error": message}

    @classmethod
    def error_event(cls, message):
        return json.dumps({"error": message}).encode() + b"\n"

    @staticmethod
    def read(body, path):
        a = Ask(body.get("model", ""), body.get("stream", True))
        a.generate = path.endswith("/generate")
        a.tools = {t["function"]["name"]: "function" for t in body.get("tools") or []}
        a.schema = body.get("format") if isinstance(body.get("format"), dict) else {"type": "object"} if body.get("format") == "json" else None
        a.more = {"options": body.get("options")}
        for m in body.get("messages") or [{"role": "user", "content": body.get("prompt", ""), "images": body.get("images")}]:
            if m.get("role") == "assistant":
                a.assistant()
            elif m.get("role") == "tool":
                a.user(results=[(False, m.get("content", ""))])
            elif m.get("role") == "system":
                a.system += m.get("content", "")
            else:
                a.user(m.get("content", ""))
                for data in m.get("images") or []:
                    a.image("image", data)
        return a

    @staticmethod
    def doc(ask, b=None, done=None):
        d = {"model": ask.model, "created_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        text = b[1] if b and b[0] == "text" else ""
        if ask.generate:
            d["response"] = text
        else:
            d["message"] = {"role": "assistant", "content": text}
            if b and b[0] == "think":
                d["message"]["thinking"] = b[1]
            if b and b[0] == "tool":
                d["message"]["tool_calls"] = [{"function": {"name": b[1], "arguments": b[2]}}]
        d["done"] = done is not None
        if done is not None:
            i, o, _ = usage_of(done)
            d.update(done_reason=done.stop or "stop", total_duration=5_000_000, load_duration=1_000_000, prompt_eval_count=i,
                     prompt_eval_duration=1_000_000, eval_count=o, eval_duration=2_000_000)
        return d

    @classmethod
    def whole(cls, ask, step, blocks):
        d = cls.doc(ask, ("text", "".join(b[1] for b in blocks if b[0] == "text")), step)
        calls = [{"function": {"name": b[1], "arguments": b[2]}} for b in blocks if b[0] == "tool"]
        if calls and not ask.generate:
            d["message"]["tool_calls"] = calls
        return d

    @classmethod
    def frames(cls, ask, step, blocks):
        def line(kind, d):
            return kind, json.dumps(d).encode() + b"\n"
        for b in blocks:
            for p in script.pieces(b[1], step.big or step.chunk) if b[0] != "tool" else [None]:
                yield line("piece", cls.doc(ask, b if p is None else (b[0], p)))
        yield line("end", cls.doc(ask, None, step))


def api_for(path):
    if path.endswith(("/v1/messages", "/v1/messages/count_tokens")):
        return Anthropic
    if path.endswith("/chat/completions"):
        return OpenAI
    if path.endswith("/responses"):
        return Responses
    if path.lower().endswith((":generatecontent", ":streamgeneratecontent", ":counttokens")):
        return Gemini
    return Ollama if path.endswith(("/api/chat", "/api/generate")) else None


MODELS = ["stand-in", "stand-in-large"]


def catalogue(path):
    """What a GET gives; None: no such path."""
    if path in ("/", "/healthz"):
        return {}
    if path.endswith("/api/tags"):
        return {"models": [{"name": m + ":latest", "model": m + ":latest", "size": 1, "details": {"family": "stand-in"}} for m in MODELS]}
    if path.endswith("/api/version"):
        return {"version": "0.0.0-stand-in"}
    if path.endswith("/v1beta/models"):
        return {"models": [{"name": "models/" + m, "supportedGenerationMethods": ["generateContent"]} for m in MODELS]}
    if path.endswith("/models"):
        return {"object": "list", "data": [{"id": m, "type": "model", "object": "model", "display_name": m} for m in MODELS], "models": [],
                "has_more": False}
    return None
