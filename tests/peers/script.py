"""What a prompt tells a stand-in to do: markers in its text, such as

    please write [[tool: Write {"file_path": "/x", "content": "hi"}]] [[next]] [[text: done]]

Common to all stand-ins of this folder. `[[next]]` parts a prompt into steps: the model's first
answer follows the first step, the answer to that step's tool results the second, and so on.
A step without a text or a tool answers "Hello from the stand-in."; after the last step, tool
results are answered with "tool said: ...".

    [[text: T]]           says T                      [[think: T]]      thinks T
    [[tool: NAME {..}]]   wants a tool run; again for several at once
    [[big: BYTES]]        a text of that many bytes   [[echo]]          says what it was sent, as JSON
    [[status: 429 x2 retry-after=1]]  that HTTP status; twice, then all is well; with that header
    [[slow: MS]]          before every piece          [[chunk: N]]      characters of a piece (12)
    [[cut]] [[cut: N]]    drops the connection in the middle (after N pieces)
    [[half]]              half of an event, and the stream ends as if all were well
    [[noend]]             all of it but the closing event
    [[junk]]              a line that is no JSON      [[hang]] [[hang: N]]  says nothing more (after N pieces)
    [[error: T]]          an error event within the stream
    [[usage: IN OUT CACHED]]  tokens                  [[stop: WORD]]    why it stopped
"""
import json
import re

DEFAULT_TEXT = "Hello from the stand-in."
MARK = re.compile(r"\[\[([a-z-]+)(?::\s?(.*?))?\]\]", re.S)


class Step:
    def __init__(self):
        self.texts, self.thoughts, self.tools = [], [], []
        self.status, self.status_times, self.retry_after = 0, 0, None
        self.slow, self.chunk, self.big = 0, 12, 0
        self.cut = self.hang = None
        self.half = self.noend = self.junk = self.echo = False
        self.error = self.stop = self.usage = None
        self.other = {}  # markers of a stand-in's own
        self.raw = ""

    def empty(self):
        return not (self.texts or self.thoughts or self.tools or self.big or self.echo)


def tool_marks(text):
    """[[tool: NAME {json}]]: the JSON may hold brackets, so it is read, not matched. Yields (start, end, name, input)."""
    at = 0
    while True:
        m = re.compile(r"\[\[tool:\s*(\S+?)\s*(?=[{\]])").search(text, at)
        if not m:
            return
        args, end = {}, m.end()
        if text[end:end + 1] == "{":
            try:
                args, end = json.JSONDecoder().raw_decode(text, end)
            except ValueError:
                at = m.end()
                continue
        while text[end:end + 1].isspace():
            end += 1
        if text[end:end + 2] == "]]":
            yield m.start(), end + 2, m.group(1), args
            at = end + 2
        else:
            at = m.end()


def parse_step(text):
    s = Step()
    s.raw = text
    rest, last = [], 0
    for start, end, name, args in tool_marks(text):
        s.tools.append((name, args))
        rest.append(text[last:start])
        last = end
    rest = "".join(rest) + text[last:]
    for m in MARK.finditer(rest):
        key, value = m.group(1), m.group(2) or ""
        if key == "text":
            s.texts.append(value)
        elif key == "think":
            s.thoughts.append(value)
        elif key == "status":
            w = re.match(r"(\d+)(?:\s+x(\d+))?(?:\s+retry-after=(.+))?", value)
            if w:
                s.status, s.status_times, s.retry_after = int(w.group(1)), int(w.group(2) or 0), w.group(3)
        elif key in ("slow", "chunk", "big"):
            setattr(s, key, int(value))
        elif key in ("cut", "hang"):
            setattr(s, key, int(value) if value else 1)
        elif key in ("half", "noend", "junk", "echo"):
            setattr(s, key, True)
        elif key == "usage":
            s.usage = [int(x) for x in value.split()]
        elif key in ("error", "stop"):
            setattr(s, key, value)
        else:
            s.other.setdefault(key, []).append(value)
    return s


def parse(text):
    """The steps of a prompt, at least one."""
    return [parse_step(p) for p in text.split("[[next]]")]


def pieces(text, n):
    """In pieces of n characters; nothing for an empty text."""
    return [text[i:i + n] for i in range(0, len(text), max(n, 1))]


def instance(schema, depth=0):
    """A value that a JSON schema takes: enough for structured output."""
    if not isinstance(schema, dict) or depth > 20:
        return None
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    for k in ("anyOf", "oneOf", "allOf"):
        if schema.get(k):
            return instance(schema[k][0], depth + 1)
    t = schema.get("type")
    t = (t[0] if isinstance(t, list) and t else t or ("object" if "properties" in schema else "string")).lower()
    if t == "object":
        props = schema.get("properties", {})
        return {k: instance(props.get(k, {}), depth + 1) for k in (schema.get("required") or props)}
    if t == "array":
        return [instance(schema.get("items", {}), depth + 1)] * max(1, schema.get("minItems", 1))
    if t in ("integer", "number"):
        return schema.get("minimum", 1)
    if t == "boolean":
        return True
    return None if t == "null" else "stand-in".ljust(schema.get("minLength", 0), ".")
