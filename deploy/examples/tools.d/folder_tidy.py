#!/usr/bin/env python3
"""A plug-in in Python: input, events, a question, a result; each is one line of JSON."""
import json
import os
import signal
import sys
import time


def send(type_, **members):
    print(json.dumps({"type": type_, **members}), flush=True)


def fail(code, message):
    send("error", code=code, message=message)
    sys.exit(1)


def ask(id_, **members):
    """Stands still until a person (or the agent's policy) has answered."""
    send("question", id=id_, **members)
    for line in sys.stdin:
        answer = json.loads(line)
        if answer.get("type") == "answer" and answer.get("id") == id_:
            return answer
    fail("no_answer", "The agent closed standard input before it answered.")


def old_files(folder, days):
    limit = time.time() - days * 86400
    for entry in sorted(os.scandir(folder), key=lambda e: e.name):
        if entry.is_file(follow_symlinks=False):
            st = entry.stat(follow_symlinks=False)
            yield entry.path, st.st_size, st.st_mtime < limit


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # cancelled: leave between two files
    given = json.loads(sys.stdin.readline())
    folder, days = os.path.expanduser(given["folder"]), given.get("days", 30)
    try:
        files = list(old_files(folder, days))
    except OSError as e:
        fail("folder_unreadable", f"{folder}: {e.strerror}. Name a folder that the agent's user may read.")
    old = [(path, size) for path, size, is_old in files if is_old]
    send("log", level="info", message=f"{len(old)} of {len(files)} files are older than {days} days")
    if old and not given.get("dry_run"):
        answer = ask("delete", kind="permission", action="delete",
                     title=f"Delete {len(old)} files in {folder}?",
                     arguments={"files": [path for path, _ in old]},
                     paths=[folder])
        if answer["outcome"] != "allowed":
            fail("permission_denied", f"Nothing was deleted: {answer['outcome']} by {answer['by']}. {answer['reason']}")
        for i, (path, _) in enumerate(old, 1):
            os.unlink(path)
            send("progress", progress=i, total=len(old), message=os.path.basename(path))
    send("result", outputs={"deleted": [path for path, _ in old], "kept": len(files) - len(old),
                            "freed_bytes": sum(size for _, size in old)})


if __name__ == "__main__":
    main()
