"""What the stand-ins for AI tools share: JSON lines on stdin and stdout, and every way in which
a program can misbehave. Markers beside those of script.py, obeyed before anything is said:

    [[noise]]           a line on stdout that is no JSON     [[stderr: T]]      T on stderr
    [[touch: PATH]]     makes a file and does not tell       [[env: NAME]]      says that variable
    [[file-of: NAME]]   says what is in the file that the variable names
    [[stderr-env: NAME]]  writes that variable on stderr
    [[grandchild: F]]   leaves a process behind, in a session of its own; its pid in file F
    [[ignore-term]]     lives on through SIGTERM and the end of its input
    [[pid: F]]          its own pid in file F
and these instead of an answer (after the first piece of text, if there is one):
    [[exit: N]] [[die]] ends, is killed                      [[half-line]]      half a message, then the end
    [[huge-line: N]]    a line of N bytes                    [[hang]]           says nothing more
    [[close-output]]    ends its standard output and lives on, deaf to the end of its input

`NAME --version` and FAKE_START=exit|hang|garbage in the environment serve tests of discovery."""
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import traceback
import uuid

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import script  # noqa: E402

VERSION = "0.0.1-stand-in"


class Gone(Exception):
    """The turn was cancelled."""


class Fake:
    """One conversation on stdin and stdout. `on_message` runs in the reader's thread; turns run in
    threads of their own, so that answers and cancels reach them."""

    def __init__(self):
        self.out_lock = threading.Lock()
        self.waiting = {}
        self.ignore_end = False
        self.children = []
        start = os.environ.get("FAKE_START")
        if start == "exit":
            print("cannot start: FAKE_START says so", file=sys.stderr)
            sys.exit(3)
        if start == "hang":
            time.sleep(3600)
        if start == "garbage":
            print("Welcome to the stand-in!", flush=True)

    # --- lines
    def send(self, doc):
        self.raw(json.dumps(doc, separators=(",", ":"), ensure_ascii=False) + "\n")

    def raw(self, text):
        with self.out_lock:
            try:
                sys.stdout.write(text)
                sys.stdout.flush()
            except BrokenPipeError:
                os._exit(1)

    def run(self):
        for line in sys.stdin:
            try:
                doc = json.loads(line)
            except ValueError:
                self.on_garbage(line)
                continue
            self.on_message(doc)
        self.on_end()

    def on_garbage(self, line):
        self.send({"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "Parse error"}})

    def on_end(self):
        if self.ignore_end:
            while True:
                time.sleep(3600)
        self.kill_children()
        os._exit(0)

    def in_thread(self, f, *args):
        """A turn. A mistake of the stand-in ends it, so that a test does not wait for nothing."""
        def body():
            try:
                f(*args)
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
                os._exit(70)
        threading.Thread(target=body, daemon=True).start()

    # --- asking the other side and waiting for its answer
    def wait_for(self, key):
        q = self.waiting.setdefault(key, queue.Queue())
        return q.get()

    def expect(self, key):
        self.waiting[key] = queue.Queue()

    def answered(self, key, doc):
        q = self.waiting.get(key)
        if q is not None:
            q.put(doc)
        return q is not None

    # --- misbehaviour
    def before(self, step):
        """The markers that stand apart from what is said. Gives a text to say, or ""."""
        o, said = step.other, ""
        for path in o.get("pid", []):
            write(path, str(os.getpid()))
        if "ignore-term" in o:
            self.ignore_end = True
            self.ignore_term()
        for text in o.get("stderr", []):
            print(text, file=sys.stderr, flush=True)
        if "noise" in o:
            self.raw("this line is no JSON\n")
        for path in o.get("touch", []):
            write(path, "made by the stand-in\n")
        for path in o.get("grandchild", []):
            grandchild(path)
        for name in o.get("env", []):
            said += f"{name}={os.environ.get(name, '(not set)')}"
        for name in o.get("file-of", []):
            with open(os.environ[name]) as f:
                said += f"{name} holds {f.read()}"
        for name in o.get("stderr-env", []):
            print(os.environ.get(name), file=sys.stderr, flush=True)
        return said

    def ignore_term(self):
        os.environ["FAKE_IGNORES_TERM"] = "1"
        self.term_ignored = True

    def instead(self, step):
        """What happens in place of the rest of the answer."""
        o = step.other
        if "exit" in o:
            os._exit(int(o["exit"][0] or 0))
        if "die" in o:
            os.kill(os.getpid(), signal.SIGKILL)
        if "half-line" in o:
            self.raw('{"jsonrpc":"2.0","method":"session/upd')
            os._exit(0)
        if "close-output" in o:
            self.ignore_end = True
            sys.stdout.flush()
            os.close(1)
            time.sleep(3600)
        if "huge-line" in o:
            n = int(o["huge-line"][0])
            self.raw('{"jsonrpc":"2.0","method":"x","params":{"text":"')
            while n > 0:
                self.raw("x" * min(n, 1 << 20))
                n -= 1 << 20
            self.raw('"}}\n')

    def shell(self, command, cwd, cancelled):
        """Runs a command as the tool's child, until it ends or `cancelled` is set. (exit status, output)"""
        p = subprocess.Popen(["/bin/sh", "-c", command], cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True, start_new_session=True)
        self.children.append(p)
        out = []
        reader = threading.Thread(target=lambda: out.append(p.stdout.read()), daemon=True)
        reader.start()
        while p.poll() is None:
            if cancelled.wait(0.02):
                os.killpg(p.pid, signal.SIGKILL)
                p.wait()
                break
        reader.join(1)
        self.children.remove(p)
        return p.returncode, "".join(out)

    def kill_children(self):
        for p in list(self.children):
            try:
                os.killpg(p.pid, signal.SIGKILL)
            except OSError:
                pass

    def do_tool(self, name, args, cwd, cancelled):
        """What the tools of the stand-ins do. (went well, output)"""
        path = os.path.join(cwd, args.get("file_path") or args.get("path") or "")
        try:
            if name.lower() in ("write", "write_file", "edit"):
                write(path, args.get("content", ""))
                return True, f"wrote {path}"
            if name.lower() in ("read", "read_file"):
                with open(path, encoding="utf-8", errors="replace") as f:
                    return True, f.read()
            if name.lower() in ("delete", "delete_file"):
                os.unlink(path)
                return True, f"deleted {path}"
            if name.lower() in ("bash", "shell", "exec_command", "run_shell_command", "run"):
                rc, out = self.shell(args.get("command") or args.get("cmd") or "true", cwd, cancelled)
                return rc == 0, out
        except OSError as e:
            return False, str(e)
        return False, f"there is no tool {name}"


def write(path, text):
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)


def grandchild(path):
    """A process of a session of its own whose parent is gone: what a careless tool leaves behind. It has
    written its pid when this returns."""
    written, tell = os.pipe()
    pid = os.fork()
    if pid:
        os.close(tell)
        os.read(written, 1)
        os.close(written)
        os.waitpid(pid, 0)
        return
    os.close(written)
    os.setsid()
    if os.fork():
        os._exit(0)
    write(path, str(os.getpid()))
    os.close(tell)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(3600)
    os._exit(0)


def new_id():
    return str(uuid.uuid4())


class Sessions:
    """Conversations that outlive a process: one file each in HOME, as the real tools keep them."""

    def __init__(self, name):
        self.dir = os.path.join(os.environ.get("HOME", "/tmp"), "." + name)

    def path(self, sid):
        return os.path.join(self.dir, sid.replace("/", "_") + ".json")

    def load(self, sid):
        try:
            with open(self.path(sid), encoding="utf-8") as f:
                return json.load(f)
        except (OSError, ValueError):
            return None

    def save(self, sid, doc):
        os.makedirs(self.dir, exist_ok=True)
        tmp = self.path(sid) + ".new"
        write(tmp, json.dumps(doc))
        os.rename(tmp, self.path(sid))


KINDS = {"write": "edit", "write_file": "edit", "edit": "edit", "read": "read", "read_file": "read", "delete": "delete",
         "bash": "execute", "shell": "execute", "exec_command": "execute", "run_shell_command": "execute", "run": "execute"}


def kind_of(name):
    return KINDS.get(name.lower(), "other")


def needs_asking(name, mode):
    """What the real tools ask for in their usual modes."""
    kind = kind_of(name)
    if mode in ("bypassPermissions", "yolo", "never") or kind == "read":
        return False
    return not (mode in ("acceptEdits", "autoEdit") and kind == "edit")


def serve_forever(make):
    if "--version" in sys.argv:
        print(VERSION)
        return
    signal.signal(signal.SIGTERM, lambda *_: None if os.environ.get("FAKE_IGNORES_TERM") else os._exit(143))
    make().run()
