#!/usr/bin/env python3
"""Holds proto/PROTOCOL.md against the .proto files and the headers.

    check_protocol.py [--root DIR]    each difference is one line; status 1 if there is any
    check_protocol.py --selftest      proves that each kind of difference is found

Compared, both ways: messages and enums with their field numbers and names,
methods with their types, frame types, error names and numbers, limits, versions.
"""
import argparse
import os
import re
import sys

DOC = "proto/PROTOCOL.md"
PROTOS = ["proto/photon/v1/rpc.proto", "proto/photon/v1/enroll.proto", "proto/photon/v1/agent.proto"]
HEADERS = ["common/link.h", "common/rpc.h", "common/rpc_frame.h", "common/err.h", "common/version.h"]
LIMIT = r"(?:LINK|RPC)_[A-Z_]*(?:MAX|LOW|AHEAD|MS|WINDOW|STREAMS|KEYS)"


def strip_comments(text):
    return re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.S)


def from_protos(texts):
    messages, enums, methods = {}, {}, {}
    for text in texts:
        text = strip_comments(text)
        for kind, name, body in re.findall(r"\b(message|enum|service)\s+(\w+)\s*\{(.*?)\n?\}", text, re.S):
            if kind == "message":
                messages[name] = {int(n): f for f, n in re.findall(r"(\w+)\s*=\s*(\d+)\s*;", body)}
            elif kind == "enum":
                enums[name] = {int(n): f for f, n in re.findall(r"(\w+)\s*=\s*(\d+)\s*;", body)}
            else:
                for m, s1, q, s2, r in re.findall(
                        r"rpc\s+(\w+)\s*\(\s*(stream\s+)?(\w+)\s*\)\s*returns\s*\(\s*(stream\s+)?(\w+)\s*\)", body):
                    methods[f"photon.v1.{name}/{m}"] = (bool(s1), q, bool(s2), r)
    return messages, enums, methods


def from_headers(text):
    text = strip_comments(text)
    limits, text = {}, text.replace("\\\n", " ")
    for name, value in re.findall(rf"#define\s+({LIMIT}|PHOTON_PROTO_M(?:IN|AX))\s+(.+)", text):
        expr = re.sub(r"(\d)[uUlL]+", r"\1", value).replace("(size_t)", "")
        if not re.fullmatch(r"[\d\s()<*+]+", expr):
            raise SystemExit(f"check_protocol: cannot read the value of {name}: {value}")
        limits[name] = eval(expr)  # digits, shifts and brackets only, see above
    frames = {}
    body = re.search(r"enum rpc_frame_type \{(.*?)\}", text, re.S)
    if body:
        frames = {int(n): f for f, n in re.findall(r"RPC_(\w+)\s*=\s*(\d+)", body.group(1))}
    errors = {n: int(c) for n, c in re.findall(r'X\(\w+,\s*"(\w+)",\s*(\d+)\)', text)}
    return limits, frames, errors


def rows(section, pattern):
    return re.findall(r"^\|\s*" + pattern, section, re.M)


def from_doc(text):
    doc = {"messages": {}, "enums": {}, "twice": []}
    for kind, name, body in re.findall(r"^#### (Message|Enum) `(\w+)`\n(.*?)(?=^#|\Z)", text, re.M | re.S):
        into = doc["messages" if kind == "Message" else "enums"]
        if name in into:
            doc["twice"].append(name)
        into[name] = {int(n): f for n, f in rows(body, r"(\d+)\s*\|\s*`(\w+)`\s*\|")}
    doc["methods"] = {
        m: (bool(s1), q, bool(s2), r)
        for m, s1, q, s2, r in rows(
            text, r"`(photon\.v1\.\w+/\w+)`\s*\|\s*(stream\s+)?`(\w+)`\s*\|\s*(stream\s+)?`(\w+)`\s*\|")}
    doc["frames"] = {int(n): f for n, f in rows(text, r"(\d+)\s*\|\s*([A-Z]+)\s*\|")}
    doc["limits"] = {k: int(v) for k, v in rows(text, rf"`({LIMIT})`\s*\|\s*(\d+)\s*\|")}
    found = re.search(r"This is version (\d+) to (\d+)", text)
    if found:
        doc["limits"]["PHOTON_PROTO_MIN"], doc["limits"]["PHOTON_PROTO_MAX"] = map(int, found.groups())
    errors = text.split("## 13. Errors", 1)[-1].split("## 14.", 1)[0]
    doc["errors"] = {n: int(c) for n, c in rows(errors, r"`(\w+)`\s*\|\s*(\d+)\s*\|\s*$")}
    doc["named"] = set(re.findall(r"`(\w+)` list\b", text))
    return doc


def differ(what, code, doc):
    for key in sorted(code.keys() | doc.keys(), key=str):
        if key not in doc:
            yield f"{DOC}: {what} {key} ({code[key]}) is missing"
        elif key not in code:
            yield f"{DOC}: {what} {key} does not exist"
        elif code[key] != doc[key]:
            yield f"{DOC}: {what} {key} is {code[key]}, the document says {doc[key]}"


def check(files):
    messages, enums, methods = from_protos([files[p] for p in PROTOS])
    limits, frames, errors = from_headers("\n".join(files[h] for h in HEADERS))
    doc = from_doc(files[DOC])
    out = [f"{DOC}: {name} is described twice" for name in doc["twice"]]
    out += differ("message", {k: "" for k in messages}, {k: "" for k in doc["messages"]})
    out += differ("enum", {k: "" for k in enums}, {k: "" for k in doc["enums"]})
    for group in ("messages", "enums"):
        code = messages if group == "messages" else enums
        for name in code.keys() & doc[group].keys():
            out += differ(f"{name} field", code[name], doc[group][name])
    out += differ("method", methods, doc["methods"])
    out += differ("frame type", frames, doc["frames"])
    out += differ("limit", limits, doc["limits"])
    out += differ("error", errors, doc["errors"])
    out += [f"{DOC}: a list of {n}, which is no message" for n in sorted(doc["named"] - messages.keys())]
    if not (messages and enums and methods and limits and frames and errors):
        out.append(f"{DOC}: nothing to compare was found in the sources")
    return out


def read(root):
    files = {}
    for path in [DOC] + PROTOS + HEADERS:
        with open(os.path.join(root, path), encoding="utf-8") as f:
            files[path] = f.read()
    return files


# (file, text, what it is replaced by, a part of the complaint)
MUTATIONS = [
    (DOC, "| 1 | `version_min` |", "| 9 | `version_min` |", "Preface field 1"),
    (DOC, "| 2 | `proof` |", "| 2 | `prove` |", "RedeemRequest field 2 is proof"),
    (DOC, "#### Message `Drain`", "#### Message `Drained`", "message Drain"),
    (DOC, "#### Message `Drain`", "#### Message `Label`", "Label is described twice"),
    (DOC, "| 3 | `HELD_FORGET` |", "| 4 | `HELD_FORGET` |", "HeldVerdict field 3"),
    (DOC, "| 7 | CREDIT |", "| 7 | CREDITS |", "frame type 7"),
    (DOC, "| stream `OutputChunk` |", "| `OutputChunk` |", "method photon.v1.Agent/Output"),
    (DOC, "| `photon.v1.Agent/Renew` |", "| `photon.v1.Agent/Renewal` |", "method photon.v1.Agent/Renew"),
    (DOC, "| `RPC_STREAM_WINDOW` | 262144 |", "| `RPC_STREAM_WINDOW` | 262145 |", "limit RPC_STREAM_WINDOW"),
    (DOC, "| `RPC_METHOD_MAX` | 256 |", "| `RPC_METHODS_MAX` | 256 |", "limit RPC_METHOD_MAX"),
    (DOC, "| `aborted` | 10 |", "| `aborted` | 11 |", "error aborted"),
    (DOC, "This is version 1 to 1", "This is version 1 to 2", "limit PHOTON_PROTO_MAX"),
    (DOC, "| `Label` list;", "| `Labels` list;", "a list of Labels"),
    (PROTOS[2], "message OutputAck {", "message OutputAck {\n  bool extra = 2;", "OutputAck field 2"),
    (PROTOS[1], "service Enroll {", "service Enroll {\n  rpc More(Label) returns (Label);", "Enroll/More"),
    (HEADERS[1], "#define RPC_MAX_STREAMS", "#define RPC_MORE_MAX 1\n#define RPC_MAX_STREAMS", "limit RPC_MORE_MAX"),
]


def selftest(root):
    files = read(root)
    bad = 0
    for path, old, new, complaint in MUTATIONS:
        if old not in files[path]:
            print(f"check_protocol selftest: {path} has no {old!r} any more")
            bad += 1
            continue
        said = check({**files, path: files[path].replace(old, new, 1)})
        if not any(complaint in line for line in said):
            print(f"check_protocol selftest: {old!r} -> {new!r} was not noticed: {said}")
            bad += 1
    return bad


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    p = argparse.ArgumentParser()
    p.add_argument("--root", default=os.path.join(here, "..", ".."))
    p.add_argument("--selftest", action="store_true")
    a = p.parse_args()
    if a.selftest:
        return 1 if selftest(a.root) else 0
    out = check(read(a.root))
    for line in out:
        print(line)
    return 1 if out else 0


if __name__ == "__main__":
    sys.exit(main())
