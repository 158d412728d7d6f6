"""What control costs: records of the audit, their proof, and their share of a durable step."""
import time

from parts import echo, part
from world import die_unless

RECORDS = 1_000_000
STEPS = 10_000


def audit_seq(w):
    return w.api("GET", "/audit?limit=1")["items"][0]["seq"]


def share(w, fig, us_per_record):
    """Records that a run of many steps writes, each at its measured cost, against the run's whole time."""
    w.start_hub()
    w.start_agents(["a1"])
    w.run({"name": "warm", "steps": [echo(f"s{i}") for i in range(200)]})
    before, began = audit_seq(w), time.monotonic()
    _, doc = w.run({"name": "many", "steps": [echo(f"s{i}") for i in range(STEPS)]})
    took = time.monotonic() - began
    die_unless(doc["state"] == "succeeded", "the run did not succeed")
    records = audit_seq(w) - before
    fig.add("audit_share_of_10000_steps", round(100 * records * us_per_record / 1e6 / took, 4), "%", ("<=", 5),
            note="records of the audit that the run wrote, at what one costs the store's thread")
    ms = []
    for _ in range(200):
        t = time.monotonic()
        w.api("GET", "/whoami")
        ms.append((time.monotonic() - t) * 1e3)
    ms.sort()
    fig.add("whoami_p50", round(ms[len(ms) // 2], 3), "ms", note="a whole request: TLS, token, roles, answer; one is made for a run of any size")
    fig.add("authorisation_share_of_10000_steps", round(100 * ms[len(ms) // 2] / 1e3 / took, 3), "%", ("<=", 5))
    fig.seen["control"] = {"records": records, "seconds": round(took, 3)}


def unsealing(w, fig):
    """A secret as a dispatch opens it: its rows read, its text opened, and wiped again."""
    d = w.dir / "vault_bench"
    d.mkdir(mode=0o700)
    seen = w.tool("vault_bench", 20000, d)
    fig.seen["vault_bench"] = seen
    fig.add("vault_unseal", seen["p50_us"], "us", ("<=", 50), note="p50 of a value of 64 bytes")
    fig.add("vault_unseal_p99", seen["p99_us"], "us")
    fig.add("vault_unseal_4KiB", seen["p50_4KiB_us"], "us")
    fig.add("vault_unseal_64KiB", seen["p50_64KiB_us"], "us", note="the largest value there is")
    fig.add("vault_seal", seen["seal_us"], "us", note="without its commit")


def asking(w, fig):
    """May this caller do this, there? As every request asks."""
    d = w.dir / "access_bench"
    d.mkdir(mode=0o700)
    seen = w.tool("access_bench", 200000, d)
    fig.seen["access_bench"] = seen
    fig.add("access_rules", seen["rules_us"], "us", note="CPU of a request: two limits, the role in a project, the token's scopes")
    fig.add("access_project_of_a_run", seen["project_of_a_run_us"], "us", note="besides, for callers without a role in all projects")
    fig.add("access_token_and_user", seen["token_and_user_us"], "us", note="once a second for a caller, and after a change to people")


@part
def control(w, fig, rounds):
    del rounds
    d = w.dir / "audit_bench"
    d.mkdir()
    seen = w.tool("audit_bench", RECORDS, d)
    fig.seen["audit_bench"] = seen
    fig.add("audit_verify_1000000", seen["verify_s"], "s", ("<=", 10))
    fig.add("audit_record_cpu", seen["cpu_us_per_record"], "us")
    unsealing(w, fig)
    asking(w, fig)
    share(w, fig, seen["cpu_us_per_record"])
