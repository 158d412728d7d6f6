"""The session part of the Jules REST API (v1alpha), for models.py. A session moves on by one
state each time it is looked at, so tests need no clock. Markers in the prompt: [[fail: reason]],
[[ask: question]] (waits for a message), [[stay]] (never ends), [[text: T]] (what it says)."""
import threading
import time

import script


def now():
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


class Jules:
    def __init__(self):
        self.lock = threading.Lock()
        self.sessions = {}

    def answer(self, method, path, body):
        with self.lock:
            return self.route(method, path.strip("/"), body or {})

    def route(self, method, path, body):
        if path == "sources":
            return 200, {"sources": [{"name": "sources/github/acme/shop", "id": "github/acme/shop",
                                      "githubRepo": {"owner": "acme", "repo": "shop"}}]}
        if path == "sessions" and method == "POST":
            return self.create(body)
        if path == "sessions":
            return 200, {"sessions": [s["doc"] for s in self.sessions.values()]}
        name, _, verb = path.partition(":")
        parts = name.split("/")
        s = self.sessions.get(parts[1]) if len(parts) >= 2 and parts[0] == "sessions" else None
        if s is None:
            return 404, {"error": {"code": 404, "message": "Requested entity was not found.", "status": "NOT_FOUND"}}
        if verb == "approvePlan" and method == "POST":
            if s["doc"]["state"] != "AWAITING_PLAN_APPROVAL":
                return 400, {"error": {"code": 400, "message": "There is no plan to approve.", "status": "FAILED_PRECONDITION"}}
            self.act(s, "user", planApproved={"planId": "plan-1"})
            s["doc"]["state"] = "IN_PROGRESS"
            return 200, {}
        if verb == "sendMessage" and method == "POST":
            self.act(s, "user", userMessaged={"userMessage": body.get("prompt", "")})
            s["told"] = True
            return 200, {}
        if len(parts) == 3 and parts[2] == "activities":
            return 200, {"activities": s["activities"]}
        if method == "DELETE":
            del self.sessions[parts[1]]
            return 200, {}
        self.advance(s)
        return 200, s["doc"]

    def create(self, body):
        if not body.get("prompt") or not body.get("sourceContext", {}).get("source"):
            return 400, {"error": {"code": 400, "message": "prompt and sourceContext are required", "status": "INVALID_ARGUMENT"}}
        sid = str(1000 + len(self.sessions))
        doc = {"name": f"sessions/{sid}", "id": sid, "title": body.get("title") or body["prompt"][:40], "prompt": body["prompt"],
               "sourceContext": body["sourceContext"], "state": "QUEUED", "createTime": now(), "updateTime": now(),
               "url": f"http://127.0.0.1/session/{sid}"}
        self.sessions[sid] = {"doc": doc, "activities": [], "approve": bool(body.get("requirePlanApproval")), "told": False,
                              "step": script.parse(body["prompt"])[0], "pr": body.get("automationMode") == "AUTO_CREATE_PR"}
        return 200, doc

    def act(self, s, who, **what):
        n = len(s["activities"]) + 1
        s["activities"].append({"name": f"{s['doc']['name']}/activities/{n}", "id": str(n), "createTime": now(), "originator": who, **what})

    def advance(self, s):
        doc, step = s["doc"], s["step"]
        state = doc["state"]
        doc["updateTime"] = now()
        if state == "QUEUED":
            doc["state"] = "PLANNING"
        elif state == "PLANNING":
            self.act(s, "agent", planGenerated={"plan": {"id": "plan-1", "createTime": now(), "steps": [
                {"id": "s1", "index": 0, "title": "Look at the code"}, {"id": "s2", "index": 1, "title": "Change it"}]}})
            doc["state"] = "AWAITING_PLAN_APPROVAL" if s["approve"] else "IN_PROGRESS"
        elif state == "IN_PROGRESS":
            if "stay" in step.other:
                return
            if "ask" in step.other and not s["told"]:
                self.act(s, "agent", agentMessaged={"agentMessage": step.other["ask"][0]})
                doc["state"] = "AWAITING_USER_FEEDBACK"
                return
            self.act(s, "agent", progressUpdated={"title": "Changed README.md", "description": "one line"}, artifacts=[
                {"bashOutput": {"command": "make test", "output": "ok\n", "exitCode": 0}},
                {"changeSet": {"source": doc["sourceContext"]["source"], "gitPatch": {
                    "unidiffPatch": "--- a/README.md\n+++ b/README.md\n@@ -1 +1 @@\n-old\n+new\n", "baseCommitId": "0" * 40,
                    "suggestedCommitMessage": "Change README"}}}])
            self.act(s, "agent", agentMessaged={"agentMessage": (step.texts or [script.DEFAULT_TEXT])[0]})
            if "fail" in step.other:
                self.act(s, "system", sessionFailed={"reason": step.other["fail"][0]})
                doc["state"] = "FAILED"
            else:
                self.act(s, "system", sessionCompleted={})
                doc["state"] = "COMPLETED"
                if s["pr"]:
                    doc["outputs"] = [{"pullRequest": {"url": "http://127.0.0.1/acme/shop/pull/7", "title": doc["title"],
                                                       "description": "by the stand-in"}}]
        elif state == "AWAITING_USER_FEEDBACK" and s["told"]:
            doc["state"] = "IN_PROGRESS"
