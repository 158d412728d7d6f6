/* The tools that the hub offers over MCP. Each is a route of the API; docs/MCP.md shows
 * the table, and a test holds it against the routes and the page. */
#include <stddef.h>

#include "hub/http/mcp.h"

#define V1 "/api/v1"

const char mcp_instructions[] =
        "PHOTON runs tools on machines (agents) that their owners enrolled with this hub. list_agents shows "
        "the "
        "machines, list_tools the tools they have with their input schemas. run_tool calls one tool and "
        "waits for "
        "it; start_run submits a workflow of several steps, watch_run waits for it. A run in state "
        "\"waiting\" "
        "waits for a person. read_logs pages through what a step wrote. An error names its code and says "
        "what to "
        "do; do not repeat a call whose outcome is unknown without looking at its run first.";

/* ---- schemas ---- */

#define OBJ(props) "{\"type\":\"object\",\"properties\":{" props "},\"additionalProperties\":false}"
#define OBJ_REQ(props, req)                                                                                  \
        "{\"type\":\"object\",\"properties\":{" props "},\"required\":[" req                                 \
        "],\"additionalProperties\":false}"
#define TEXT(name, says) "\"" name "\":{\"type\":\"string\",\"description\":\"" says "\"}"
#define WORD(name, says) "\"" name "\":{\"type\":\"string\",\"minLength\":1,\"description\":\"" says "\"}"
#define NUM(name, lo, hi, says)                                                                              \
        "\"" name "\":{\"type\":\"integer\",\"minimum\":" lo ",\"maximum\":" hi ",\"description\":\"" says   \
        "\"}"
#define FLAG(name, says) "\"" name "\":{\"type\":\"boolean\",\"description\":\"" says "\"}"
#define ONE_OF(name, of, says)                                                                               \
        "\"" name "\":{\"type\":\"string\",\"enum\":[" of "],\"description\":\"" says "\"}"
#define MAP(name, says) "\"" name "\":{\"type\":\"object\",\"description\":\"" says "\"}"

#define RUN        WORD("run", "the run's id")
#define CHECKPOINT WORD("checkpoint", "the question's id")
#define STEP       WORD("step", "the step's id")
#define PROJECT    WORD("project", "the project; your only one, or default, if not given")
#define LIMIT      NUM("limit", "1", "500", "at most so many; 50 if not given")
#define CURSOR     WORD("cursor", "next_cursor of the page before")
#define WAIT                                                                                                 \
        TEXT("wait", "how long to wait for the end at most, such as 30s or 5m; 1h if not given. After that " \
                     "the answer has over=false and the run goes on: watch_run waits again")
#define WORKFLOW                                                                                             \
        "\"workflow\":{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"object\"}],\"description\":\"the "       \
        "workflow as YAML or JSON text, or as an object\"}"

#define ANY      "{}"
#define OUT_STR  "{\"type\":\"string\"}"
#define OUT_INT  "{\"type\":\"integer\"}"
#define OUT_OBJ  "{\"type\":\"object\"}"
#define OUT_BOOL "{\"type\":\"boolean\"}"
#define PAGE                                                                                                 \
        "{\"type\":\"object\",\"properties\":{\"items\":{\"type\":\"array\",\"items\":{\"type\":\"object\"}" \
        "},\"next_cursor\":{\"type\":[\"string\",\"null\"]}},\"required\":[\"items\",\"next_cursor\"]}"
#define RUN_OUT                                                                                              \
        "{\"type\":\"object\",\"properties\":{\"id\":" OUT_STR ",\"workflow\":" OUT_STR                      \
        ",\"state\":{\"enum\":[\"queued\",\"running\",\"waiting\",\"succeeded\",\"failed\",\"cancelled\"]}," \
        "\"steps\":{\"type\":\"array\",\"items\":{\"type\":\"object\"}}},\"required\":[\"id\",\"workflow\"," \
        "\"state\"]}"
#define CALL_OUT                                                                                             \
        "{\"type\":\"object\",\"properties\":{\"run\":" OUT_STR ",\"state\":" OUT_STR ",\"over\":" OUT_BOOL  \
        ",\"tool\":" OUT_STR ",\"agent\":" OUT_STR ",\"exit_code\":" OUT_INT ",\"outputs\":" OUT_OBJ         \
        ",\"error\":{\"type\":\"object\",\"properties\":{\"code\":" OUT_STR ",\"message\":" OUT_STR          \
        "}},\"usage\":" OUT_OBJ ",\"output_bytes\":" OUT_INT ",\"output\":" OUT_STR                          \
        ",\"output_cut\":" OUT_BOOL "},\"required\":[\"run\",\"state\",\"over\",\"tool\"]}"
#define LOGS_OUT                                                                                             \
        "{\"type\":\"object\",\"properties\":{\"run\":" OUT_STR ",\"step\":" OUT_STR ",\"attempt\":" OUT_INT \
        ",\"text\":" OUT_STR ",\"next_offset\":" OUT_INT ",\"more\":" OUT_BOOL ",\"over\":" OUT_BOOL         \
        ",\"cut\":" OUT_BOOL "},\"required\":[\"run\",\"step\",\"text\",\"next_offset\",\"more\",\"over\"]}"

/* clang-format off */
const struct mcp_tool mcp_tools[] = {
        {"list_agents", "List agents", "The machines that are enrolled, with state, labels and what they run now.",
         "GET", V1 "/agents", {NULL}, "limit cursor", NULL, MCP_READS,
         OBJ(LIMIT "," CURSOR), PAGE, NULL},
        {"get_agent", "Show an agent", "One machine, by name or id.",
         "GET", V1 "/agents/{name}", {"agent"}, NULL, NULL, MCP_READS,
         OBJ_REQ(WORD("agent", "its name or id"), "\"agent\""), OUT_OBJ, NULL},
        {"list_tools", "List tools", "The tools that agents have, with input and output schemas and the agents that have them: what run_tool and workflow steps can use.",
         "GET", V1 "/tools", {NULL}, "limit cursor", NULL, MCP_READS,
         OBJ(LIMIT "," CURSOR), PAGE, NULL},
        {"run_tool", "Run a tool on an agent", "Calls one tool on an agent and answers when it is over, with its outputs and the end of what it wrote. Which agent: by name, by labels, or whichever has the tool. Whether it is allowed there the agent's own policy decides.",
         "POST", V1 "/calls", {NULL}, "project", "tool input agent labels timeout effect", MCP_DESTROYS | MCP_OPEN | MCP_FOLLOWS | MCP_OWNS,
         OBJ_REQ(WORD("tool", "the tool's name, as list_tools has it, such as process.exec") ","
                 MAP("input", "the tool's input, by its schema") ","
                 WORD("agent", "run it on this agent") ","
                 MAP("labels", "or on an agent that has these labels, such as {\\\"os\\\": \\\"linux\\\"}") ","
                 TEXT("timeout", "stop the tool after this long, such as 30s or 10m") ","
                 ONE_OF("effect", "\"pure\",\"idempotent\",\"at-most-once\"", "may it run twice if an agent is lost; at-most-once if not given") ","
                 WAIT ","
                 NUM("tail_bytes", "0", "65536", "how much of the end of its output to answer with; 4096 if not given") "," PROJECT, "\"tool\""),
         CALL_OUT, NULL},
        {"start_run", "Start a run", "Submits a workflow and answers at once with the run's id; watch_run waits for its end.",
         "POST", V1 "/runs", {NULL}, "project", "workflow inputs priority", MCP_DESTROYS | MCP_OPEN,
         OBJ_REQ(WORKFLOW "," MAP("inputs", "the workflow's inputs") "," NUM("priority", "-100", "100", "added to the workflow's") "," PROJECT, "\"workflow\""),
         RUN_OUT, NULL},
        {"validate_workflow", "Check a workflow", "Says what is wrong with a workflow, with line and column, without running it.",
         "POST", V1 "/validate", {NULL}, NULL, "workflow", MCP_READS,
         OBJ_REQ(WORKFLOW, "\"workflow\""), OUT_OBJ, NULL},
        {"list_runs", "List runs", "Runs and calls, newest first.",
         "GET", V1 "/runs", {NULL}, "state workflow kind project limit cursor", NULL, MCP_READS,
         OBJ(ONE_OF("state", "\"queued\",\"running\",\"waiting\",\"succeeded\",\"failed\",\"cancelled\"", "only those in this state") ","
             WORD("workflow", "only those of this workflow") "," ONE_OF("kind", "\"run\",\"call\"", "only workflows' runs, or only single calls") "," PROJECT "," LIMIT "," CURSOR),
         PAGE, NULL},
        {"get_run", "Show a run", "One run as it is now, with its steps and their outputs.",
         "GET", V1 "/runs/{id}", {"run"}, "steps", NULL, MCP_READS,
         OBJ_REQ(RUN "," FLAG("steps", "false leaves the steps out"), "\"run\""), RUN_OUT, NULL},
        {"watch_run", "Wait for a run", "Waits until a run is over, reporting what its steps do, and answers with it as get_run does. That it failed is no error of this tool: look at its state.",
         "GET", V1 "/runs/{id}", {"run"}, NULL, NULL, MCP_READS | MCP_FOLLOWS,
         OBJ_REQ(RUN "," WAIT, "\"run\""), RUN_OUT, NULL},
        {"cancel_run", "Cancel a run", "Stops a run; its tools are stopped where they run.",
         "POST", V1 "/runs/{id}/cancel", {"run"}, NULL, "reason", MCP_DESTROYS | MCP_IDEMPOTENT,
         OBJ_REQ(RUN "," TEXT("reason", "why, for those who read the record"), "\"run\""), RUN_OUT, NULL},
        {"retry_run", "Run failed steps again", "Runs the failed, cancelled and unknown steps of a run again, and what depends on them.",
         "POST", V1 "/runs/{id}/retry", {"run"}, NULL, NULL, MCP_DESTROYS | MCP_OPEN,
         OBJ_REQ(RUN, "\"run\""), RUN_OUT, NULL},
        {"resolve_step", "Decide an unknown step", "Decides a step whose outcome is unknown because its agent was lost. Find out first what really happened on that machine.",
         "POST", V1 "/runs/{id}/steps/{step}/resolve", {"run", "step"}, NULL, "outcome", MCP_DESTROYS,
         OBJ_REQ(RUN "," STEP "," ONE_OF("outcome", "\"retry\",\"succeeded\",\"failed\"", "what to make of it"), "\"run\",\"step\",\"outcome\""), RUN_OUT, NULL},
        {"explain_run", "Explain placement", "Why steps went to the agents they went to, or why they wait.",
         "GET", V1 "/runs/{id}/explain", {"run"}, "step", NULL, MCP_READS,
         OBJ_REQ(RUN "," STEP, "\"run\""), OUT_OBJ, NULL},
        {"read_logs", "Read output", "A piece of what a step wrote, as text. Go on with next_offset while more is true; while over is false there may be more later.",
         "GET", V1 "/runs/{id}/logs", {"run"}, NULL, NULL, MCP_READS,
         OBJ_REQ(RUN "," STEP "," NUM("attempt", "1", "4294967295", "which try; the last if not given") ","
                 ONE_OF("channel", "\"output\",\"stdout\",\"stderr\",\"event\"", "output (stdout and stderr) if not given") ","
                 NUM("offset", "0", "9007199254740992", "where to begin; 0 if not given") ","
                 NUM("max_bytes", "1", "262144", "at most so much; 16384 if not given") ","
                 FLAG("tail", "true: the end instead"), "\"run\""),
         LOGS_OUT, mcp_read_logs},
        {"list_checkpoints", "List questions to people", "Questions to people, of tools and of approval steps, newest first: what waits for an answer, and until when. The open ones, if no state is given.",
         "GET", V1 "/checkpoints", {NULL}, "state run project limit cursor", NULL, MCP_READS,
         OBJ(ONE_OF("state", "\"open\",\"approved\",\"rejected\",\"expired\",\"withdrawn\",\"all\"", "only those in this state") "," RUN "," PROJECT "," LIMIT "," CURSOR), PAGE, NULL},
        {"get_checkpoint", "Show a question", "One question to people with the exact arguments it asks about, and their SHA-256.",
         "GET", V1 "/checkpoints/{id}", {"checkpoint"}, NULL, NULL, MCP_READS,
         OBJ_REQ(CHECKPOINT, "\"checkpoint\""), OUT_OBJ, NULL},
        {"answer_checkpoint", "Answer a question", "Approves or rejects what a tool or an approval step asks, for a person who has said so: show them the exact arguments first, and give the sha256 they saw.",
         "POST", V1 "/checkpoints/{id}/approve", {"checkpoint"}, NULL, "reason content sha256 always", MCP_DESTROYS | MCP_OPEN,
         OBJ_REQ(CHECKPOINT "," ONE_OF("decision", "\"approve\",\"reject\"", "what the person said") ","
                 TEXT("sha256", "of the arguments that were shown; refused if they are others") "," TEXT("reason", "why, for the tool and for the record") ","
                 MAP("content", "the filled-in form, for questions of kind input") "," FLAG("always", "approve the same for the rest of this call too"), "\"checkpoint\",\"decision\""),
         OUT_OBJ, mcp_answer_checkpoint},
        {0},
};
/* clang-format on */
