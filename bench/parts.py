"""The parts of the benchmark: each starts what it needs in its own world and adds figures."""
import hashlib
import http.client
import json
import os
import shutil
import socket
import ssl
import statistics
import subprocess
import time

from world import Daemon, cpu_ns, die_unless, wakeups

median = statistics.median
PARTS = {}
OUTPUT_BYTES = 1 << 30
MANY = 10000
SWARM = 1000
IDLE_S = 30
SETTLE_S = 3


def part(f):
    PARTS[f.__name__] = f
    return f


def echo(step, needs=None):
    s = {"id": step, "uses": "photon.echo", "with": {}}
    if needs:
        s["needs"] = needs
    return s


# --- rpc: our unary beside gRPC's callback unary, same certificates, same message -----------------------

@part
def rpc(w, fig, rounds):
    d = w.dir / "rpc"
    d.mkdir()
    w.daemon("rpc_server", [w.program("rpc_echo"), "server", d]).line()
    peer = w.program("grpc_echo")
    port = w.daemon("grpc_server", [peer, "server", d]).line() if peer.exists() else None
    ours = {"p50_1": [], "p99_1": [], "rate_64": [], "rate_1000": []}
    grpc = {"p50_1": [], "p99_1": [], "rate_64": []}
    stream = []
    for _ in range(rounds):
        r = w.tool("rpc_echo", "client", d, 1.5, "unary_1")["unary_1"]
        ours["p50_1"].append(r["p50_us"])
        ours["p99_1"].append(r["p99_us"])
        if port:
            r = w.tool("grpc_echo", "client", d, port, 15000, 1, 256)
            grpc["p50_1"].append(r["p50_us"])
            grpc["p99_1"].append(r["p99_us"])
        r = w.tool("rpc_echo", "client", d, 1.5, "unary_64,unary_1000")
        ours["rate_64"].append(r["unary_64"]["calls_per_s"])
        ours["rate_1000"].append(r["unary_1000"]["calls_per_s"])
        if port:
            grpc["rate_64"].append(w.tool("grpc_echo", "client", d, port, 50000, 64, 256)["calls_per_s"])
        stream.append(w.tool("rpc_echo", "client", d, 1.5, "stream_up")["stream_up"]["mb_per_s"])

    def peer_of(key):
        return ("gRPC C++", median(grpc[key]) if grpc[key] else None)

    fig.add("rpc_unary_256B_p50", median(ours["p50_1"]), "us", ("<=", 1.2), peer_of("p50_1"))
    fig.add("rpc_unary_256B_p99", median(ours["p99_1"]), "us", None, peer_of("p99_1"))
    fig.add("rpc_unary_64_outstanding", median(ours["rate_64"]), "calls/s", (">=", 2), peer_of("rate_64"))
    fig.add("rpc_unary_1000_outstanding", median(ours["rate_1000"]), "calls/s")
    fig.add("rpc_stream_64KiB", median(stream), "MB/s")
    fig.seen["rpc"] = {"ours": ours, "grpc": grpc, "stream_up_mb_per_s": stream}


# --- latency: one no-op call at a time, as its submitter sees it -----------------------------------------

@part
def latency(w, fig, rounds):
    w.start_hub()
    w.start_agents(["a1"])
    all_rounds = [w.tool("noop_latency", w.url, w.ca, 1000, w.dir, env={"PHOTON_TOKEN": w.token}) for _ in range(rounds)]
    r = sorted(all_rounds, key=lambda x: x["p50_ms"])[len(all_rounds) // 2]
    sync = r["fdatasync_append_p50_ms"]
    limit = round(max(1.0, sync / 0.15), 3)
    fig.add("noop_call_p50", r["p50_ms"], "ms", ("<=", limit),
            note="the target is 1 ms where one fdatasync takes 0.15 ms, and grows with a slower disk")
    fig.add("noop_call_p99", r["p99_ms"], "ms")
    fig.add("noop_call_p50_in_fdatasyncs", r["p50_ms"], "ms", None, ("one fdatasync, append", sync))
    fig.add("noop_call_p50_in_overwrites", r["p50_ms"], "ms", None,
            ("one fdatasync, overwrite", r["fdatasync_overwrite_p50_ms"]))
    fig.seen["latency"] = all_rounds


# --- dispatch: many steps at once, a chain, a fan-out, processes -----------------------------------------

def timed(w, workflow, steps, rounds, beside=None):
    """Median seconds, and the CPU each daemon spent on a step, by thread. `beside` takes its turn before each."""
    took, cpu = [], []
    for _ in range(rounds):
        if beside:
            beside()
        ds = {"hub": w.hub, **w.agents}
        before = {n: d.threads() for n, d in ds.items()}
        s, doc = w.run(workflow)
        took.append(s)
        die_unless(doc["step_count"] == steps, f"{doc['step_count']} steps instead of {steps}")
        per = {}
        for n, d in ds.items():
            for t, (ns, _) in d.threads().items():
                us = (ns - before[n].get(t, (0, 0))[0]) / 1e3 / steps
                if us >= 0.05:
                    per.setdefault(n, {})[t] = round(us, 2)
        cpu.append(per)
    i = took.index(sorted(took)[len(took) // 2])
    return took[i], {"seconds": [round(t, 4) for t in took], "cpu_us_per_step_by_thread": cpu[i]}


def cpu_total(seen, who):
    return round(sum(seen["cpu_us_per_step_by_thread"].get(who, {}).values()), 1)


def many(w, fig, rounds, name):
    s, seen = timed(w, {"name": "many", "steps": [echo(f"s{i}") for i in range(MANY)]}, MANY, rounds)
    fig.add(name, round(MANY / s), "steps/s", (">=", 10000), note="aiming at 20000")
    fig.add(name + "_hub_cpu", cpu_total(seen, "hub"), "us/step")
    fig.add(name + "_agent_cpu", round(sum(cpu_total(seen, a) for a in w.agents), 1), "us/step")
    fig.seen[name] = seen


@part
def dispatch(w, fig, rounds):
    w.start_hub()
    w.start_agents(["a1"])
    w.run({"name": "warm", "steps": [echo(f"s{i}") for i in range(200)]})
    many(w, fig, rounds, "steps_10000_one_agent")

    s, seen = timed(w, {"name": "chain", "steps": [echo(f"s{i}", [f"s{i - 1}"] if i else None) for i in range(100)]}, 100, rounds)
    fig.add("chain_100", round(s * 10, 3), "ms/step", ("<=", 1.0))
    fig.seen["chain_100"] = seen

    fan = [echo("first")] + [echo(f"s{i}", ["first"]) for i in range(1000)] + [echo("last", [f"s{i}" for i in range(1000)])]
    s, seen = timed(w, {"name": "fan", "steps": fan}, 1002, rounds)
    fig.add("fan_out_1_1000_1", round(s, 4), "s", ("<=", 0.25))
    fig.seen["fan_out_1_1000_1"] = seen

    true = [{"id": f"s{i}", "uses": "process.exec", "with": {"argv": ["/bin/true"]}} for i in range(500)]
    bare, bare8 = [], []

    def alone():
        bare.append(w.tool("spawn_rate", 1000, 1)["per_s"])
        bare8.append(w.tool("spawn_rate", 1000, 8)["per_s"])

    s, seen = timed(w, {"name": "true", "steps": true}, 500, rounds, alone)
    fig.add("exec_true_500", round(500 / s), "steps/s", (">=", 1000))
    fig.add("exec_true_500_beside_bare", round(500 / s), "steps/s", None, ("bare fork+exec+wait", median(bare)))
    fig.add("exec_true_hub_cpu", cpu_total(seen, "hub"), "us/step")
    fig.add("exec_true_agent_cpu", cpu_total(seen, "a1"), "us/step")
    seen["bare_per_s"], seen["bare_8_at_once_per_s"] = bare, bare8
    fig.seen["exec_true_500"] = seen

    w.start_agents(["a2", "a3"])
    many(w, fig, rounds, "steps_10000_three_agents")
    fig.seen["rss_kib_after_dispatch"] = {n: d.rss_kib() for n, d in {"hub": w.hub, **w.agents}.items()}


# --- output: one step that prints 1 GiB ---------------------------------------------------------------------

def fetch_sha256(w, path):
    ctx = ssl.create_default_context(cafile=str(w.ca))
    c = http.client.HTTPSConnection("127.0.0.1", w.port, context=ctx, timeout=600)
    h, n = hashlib.sha256(), 0
    c.request("GET", "/api/v1" + path, headers={"Authorization": f"Bearer {w.token}"})
    r = c.getresponse()
    die_unless(r.status == 200, f"logs: {r.status}")
    while True:
        b = r.read(1 << 20)
        if not b:
            break
        h.update(b)
        n += len(b)
    c.close()
    return h.hexdigest(), n


def source_sha256(w):
    h = hashlib.sha256()
    with subprocess.Popen([str(w.program("pattern")), str(OUTPUT_BYTES)], stdout=subprocess.PIPE) as p:
        for b in iter(lambda: p.stdout.read(1 << 20), b""):
            h.update(b)
    return h.hexdigest()


def disk_mb_per_s(w):
    """What the disk takes by plain writes with an fdatasync each MiB, as the hub keeps output."""
    path, piece, n = w.dir / "plain", os.urandom(1 << 20), 256
    fd = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
    began = time.monotonic()
    for _ in range(n):
        os.write(fd, piece)
        os.fdatasync(fd)
    took = time.monotonic() - began
    os.close(fd)
    path.unlink()
    return n * len(piece) / took / 1e6


@part
def output(w, fig, rounds):
    d = w.dir / "rpc"
    d.mkdir()
    server = w.daemon("rpc_server", [w.program("rpc_echo"), "server", d])
    server.line()
    w.start_hub()
    w.start_agents(["a1"])
    agent, hub = w.agents["a1"], w.hub
    time.sleep(SETTLE_S)
    link, rates, rise, cpu = [], [], {"hub": [], "agent": []}, []
    wanted = source_sha256(w)
    for _ in range(rounds):
        link.append(w.tool("rpc_echo", "client", d, 3, "stream_up")["stream_up"]["mb_per_s"])
        idle = {"hub": hub.rss_kib(), "agent": agent.rss_kib()}
        before = {"hub": hub.threads(), "agent": agent.threads()}
        hub.reset_peak()
        agent.reset_peak()
        argv = [str(w.program("pattern").resolve()), str(OUTPUT_BYTES)]
        s, doc = w.run({"name": "gib", "steps": [{"id": "print", "uses": "process.exec", "with": {"argv": argv}}]})
        rates.append(round(OUTPUT_BYTES / s / 1e6, 1))
        rise["hub"].append(hub.peak_kib() - idle["hub"])
        rise["agent"].append(agent.peak_kib() - idle["agent"])
        cpu.append({n: {t: round((ns - before[n].get(t, (0, 0))[0]) / 1e9, 2) for t, (ns, _) in p.threads().items()
                        if ns - before[n].get(t, (0, 0))[0] > 10e6} for n, p in (("hub", hub), ("agent", agent))})
        began = time.monotonic()
        got, n = fetch_sha256(w, f"/runs/{doc['id']}/steps/print/logs?channel=stdout")
        read_rate = round(n / (time.monotonic() - began) / 1e6, 1)
        fig.seen.setdefault("output_read_back_mb_per_s", []).append(read_rate)
        fig.seen["output_exact"] = fig.seen.get("output_exact", True) and got == wanted and n == OUTPUT_BYTES
    fig.add("output_1GiB", median(rates), "MB/s", (">=", 0.5), ("our link, 64 KiB messages", median(link)))
    fig.add("output_1GiB_exact", int(fig.seen["output_exact"]), "bool", (">=", 1))
    fig.add("output_hub_rise", round(max(rise["hub"]) / 1024, 1), "MiB", ("<=", 64))
    fig.add("output_agent_rise", round(max(rise["agent"]) / 1024, 1), "MiB", ("<=", 64))
    fig.seen["output"] = {"mb_per_s": rates, "link_mb_per_s": link, "rise_kib": rise, "cpu_s_by_thread": cpu,
                          "disk_fdatasync_each_mib_mb_per_s": round(disk_mb_per_s(w), 1)}


# --- idle and swarm: memory and wake-ups ----------------------------------------------------------------------

@part
def idle(w, fig, rounds):
    del rounds
    hub = w.start_hub()
    time.sleep(SETTLE_S)
    fig.add("hub_idle_rss", round(hub.rss_kib() / 1024, 2), "MiB", ("<=", 25))
    w.start_agents(["a1"])
    agent = w.agents["a1"]
    w.conn.close()
    w.conn = None
    time.sleep(SETTLE_S)
    fresh = agent.rss_kib()
    woke = {n: (d, wakeups(d), cpu_ns(d), d.threads()) for n, d in (("agent", agent), ("hub", hub))}
    time.sleep(IDLE_S)
    for n, (d, before, cpu, threads) in woke.items():
        fig.add(f"{n}_idle_wakeups", round((wakeups(d) - before) / IDLE_S, 2), "1/s",
                ("<=", 1) if n == "agent" else None)
        fig.add(f"{n}_idle_cpu", round((cpu_ns(d) - cpu) / 1e4 / IDLE_S / 1e3, 4), "%")
        fig.seen[f"{n}_idle_wakeups_by_thread"] = {
            t: v[1] - threads.get(t, (0, 0))[1] for t, v in d.threads().items() if v[1] - threads.get(t, (0, 0))[1]}
    fig.add("agent_idle_rss", round(agent.rss_kib() / 1024, 2), "MiB", ("<=", 6))
    w.run({"name": "work", "steps": [echo(f"s{i}") for i in range(1000)]})
    time.sleep(SETTLE_S)
    fig.add("agent_rss_after_1000_steps", round(agent.rss_kib() / 1024, 2), "MiB")
    fig.add("hub_rss_after_1000_steps", round(hub.rss_kib() / 1024, 2), "MiB")
    fig.seen["agent_rss_kib_when_fresh"] = fresh


@part
def swarm(w, fig, rounds):
    del rounds
    hub = w.start_hub()
    token = w.join_token(SWARM)
    w.conn.close()
    w.conn = None
    time.sleep(SETTLE_S)
    rss = [hub.rss_kib()]
    s = w.daemon("swarm", [w.program("swarm"), w.dir / "swarm", SWARM], stdin=subprocess.PIPE, env=w.env(PHOTON_JOIN_TOKEN=token))

    def go():
        s.p.stdin.write(b"go\n")
        s.p.stdin.flush()

    enrolled = json.loads(s.line())
    time.sleep(SETTLE_S)
    rss.append(hub.rss_kib())
    cpu = cpu_ns(hub)
    go()
    connected = json.loads(s.line())
    cpu = cpu_ns(hub) - cpu
    go()
    time.sleep(SETTLE_S)
    rss.append(hub.rss_kib())
    online = 0
    cursor = ""
    while cursor is not None:
        page = w.api("GET", "/agents?limit=500" + (f"&cursor={cursor}" if cursor else ""))
        online += sum(a["state"] == "online" for a in page["items"])
        cursor = page["next_cursor"]
    die_unless(online == SWARM, f"{online} of {SWARM} agents are online")
    w.conn.close()
    w.conn = None
    idle_cpu = cpu_ns(hub)
    time.sleep(IDLE_S)
    idle_cpu = cpu_ns(hub) - idle_cpu
    rss.append(hub.rss_kib())
    s.p.stdin.close()
    held = json.loads(s.line())
    fig.add("hub_rss_per_agent", round((rss[2] - rss[0]) / SWARM, 1), "KiB", ("<=", 64),
            note="enrolled, connected, said Hello, session open")
    fig.add("hub_rss_per_connection", round((rss[2] - rss[1]) / SWARM, 1), "KiB")
    fig.add("swarm_enroll_1000", enrolled["seconds"], "s")
    fig.add("swarm_connect_1000", connected["seconds"], "s")
    fig.add("swarm_connect_hub_cpu", round(cpu / 1e6 / SWARM, 2), "ms/agent")
    fig.add("swarm_idle_hub_cpu", round(idle_cpu / 1e7 / IDLE_S, 3), "%")
    fig.add("swarm_lost", held["lost"], "agents", ("<=", 0))
    fig.seen["swarm_hub_rss_kib"] = dict(zip(("fresh", "enrolled", "connected", "after_30s"), rss))


# --- store and logs alone, and a peer ---------------------------------------------------------------------------

@part
def store(w, fig, rounds):
    del rounds
    for name, args in (("store_bench", (MANY,)), ("logs_bench", (256,))):
        d = w.dir / name
        d.mkdir()
        fig.seen[name] = w.tool(name, *args, d)
    fig.add("store_alone", fig.seen["store_bench"]["steps_per_s"], "steps/s")
    fig.add("store_commit_p50", fig.seen["store_bench"]["commit_us"]["p50"], "us", None,
            ("one fdatasync", fig.seen["store_bench"]["raw_fdatasync_us"]["p50"]))


class Beanstalk:
    def __init__(self, port):
        self.s = socket.create_connection(("127.0.0.1", port))
        self.s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.f = self.s.makefile("rb")

    def ask(self, text):
        self.s.sendall(text)
        return self.f.readline().split()

    def close(self):
        self.f.close()
        self.s.close()


@part
def peers(w, fig, rounds):
    """beanstalkd with an fdatasync for each change, where it is installed: a queue, without TLS, DAG or results."""
    del rounds
    exe = os.environ.get("PHOTON_BENCH_BEANSTALKD") or shutil.which("beanstalkd")
    if not exe:
        fig.seen["peers"] = "beanstalkd is not installed"
        return
    (w.dir / "beans").mkdir()
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    d = Daemon([exe, "-l", "127.0.0.1", "-p", port, "-f", "0", "-b", w.dir / "beans"], w.dir / "beans.log")
    w.daemons.append(d)
    end = time.monotonic() + 10
    while True:
        try:
            q = Beanstalk(port)
            break
        except ConnectionRefusedError:
            die_unless(time.monotonic() < end and d.p.poll() is None, "beanstalkd does not answer")
            time.sleep(0.02)
    us, n = [], 2000
    began = time.monotonic()
    for _ in range(n):
        t = time.monotonic()
        die_unless(q.ask(b"put 0 0 60 2\r\n{}\r\n")[0] == b"INSERTED", "put")
        job = q.ask(b"reserve\r\n")
        q.f.readline()
        die_unless(q.ask(b"delete %s\r\n" % job[1])[0] == b"DELETED", "delete")
        us.append((time.monotonic() - t) * 1e6)
    fig.add("beanstalkd_fsync_job_p50", round(median(us) / 1e3, 3), "ms", note="put, reserve, delete on one connection, from Python")
    fig.add("beanstalkd_fsync_jobs", round(n / (time.monotonic() - began)), "jobs/s")
    q.close()
