/* The table of commands, and the help that is made from it. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/print.h"
#include "common/mem.h"

#define O(field) offsetof(struct opts, field)

/* clang-format off */
const struct conf_opt global_opts[] = {
        {"hub", 0, CONF_STR, O(hub), NULL, "PHOTON_HUB", "URL", "where the hub's API is: https://HOST:7443", 0, 0},
        {"token", 0, CONF_STR, O(token), NULL, "PHOTON_TOKEN", "TOKEN", "API token (safer: the environment, or photon login)", 0, 0},
        {"ca", 0, CONF_STR, O(ca), NULL, "PHOTON_CA", "FILE", "certificate (PEM) of the authority that signed the hub's", 0, 0},
        {"project", 0, CONF_STR, O(project), NULL, "PHOTON_PROJECT", "NAME", "the project to work in (default: your only one, or default)", 0, 0},
        {"output", 'o', CONF_STR, O(output), NULL, NULL, "FORMAT", "table, wide, json or yaml (default: table)", 0, 0},
        {"no-color", 0, CONF_BOOL, O(no_color), NULL, NULL, "", "no colours (NO_COLOR does the same)", 0, 0},
        {0},
};

#define FLAG_AGENT   {"agent", 'a', CONF_STR, O(agent), NULL, NULL, "NAME", "on this agent", 0, 0}
#define FLAG_LABELS  {"label", 'l', CONF_STRLIST, O(labels), NULL, NULL, "KEY=VALUE", "on an agent with this label; may be repeated", 0, 0}
#define FLAG_TIMEOUT {"timeout", 't', CONF_DURATION, O(timeout_ms), NULL, NULL, "TIME", "stop it after this long: 300ms, 10s, 5m, 1h", 0, 0}
#define FLAG_LIMIT   {"limit", 'n', CONF_INT, O(limit), "50", NULL, "N", "at most so many; 0: all", 0, 1000000000}
#define FLAG_EFFECT  {"effect", 0, CONF_STR, O(effect), NULL, NULL, "EFFECT", "may it run twice if an agent is lost: pure, idempotent or at-most-once (default)", 0, 0}

static const struct conf_opt token_create_opts[] = {
        {"uses", 0, CONF_INT, O(uses), "1", NULL, "N", "how many machines may join with it", 1, 1000000},
        {"ttl", 0, CONF_DURATION, O(ttl_ms), "1h", NULL, "TIME", "how long it is valid", 1000, 0x7fffffffffff},
        {"name", 0, CONF_STR, O(name), NULL, NULL, "GLOB", "names that agents may take with it, e.g. 'laptop-*'", 0, 0},
        {"label", 'l', CONF_STRLIST, O(labels), NULL, NULL, "KEY=VALUE", "label that each such agent gets; may be repeated", 0, 0},
        {0},
};
static const struct conf_opt api_token_create_opts[] = {
        {"name", 0, CONF_STR, O(name), NULL, NULL, "NAME", "whose token it is (needed)", 0, 0},
        {"role", 0, CONF_STR, O(role), "client", NULL, "ROLE", "client, operator, technical-operator or admin", 0, 0},
        {"user", 0, CONF_STR, O(user), NULL, NULL, "USER", "it is this user's, and no more than they are", 0, 0},
        {"own", 0, CONF_BOOL, O(own), NULL, NULL, "", "it is mine", 0, 0},
        {"scope", 0, CONF_STRLIST, O(scopes), NULL, NULL, "PERMISSION", "only for this, e.g. runs.read; may be repeated", 0, 0},
        {"ttl", 0, CONF_DURATION, O(ttl_ms), NULL, NULL, "TIME", "how long it is valid (default: until it is revoked)", 1000, 0x7fffffffffff},
        {0},
};
static const struct conf_opt own_opts[] = {
        {"own", 0, CONF_BOOL, O(own), NULL, NULL, "", "of my own tokens and logins", 0, 0},
        {0},
};
static const struct conf_opt user_create_opts[] = {
        {"service", 0, CONF_BOOL, O(service), NULL, NULL, "", "a program, which never logs in", 0, 0},
        {"email", 0, CONF_STR, O(email), NULL, NULL, "ADDRESS", "where to write to them", 0, 0},
        {"subject", 0, CONF_STR, O(subject), NULL, NULL, "SUB", "who they are at the identity provider, as its tokens say (default: the first login makes a user of its own)", 0, 0},
        {0},
};
static const struct conf_opt project_create_opts[] = {
        {"title", 0, CONF_STR, O(name), NULL, NULL, "TEXT", "what it is about", 0, 0},
        {0},
};
static const struct conf_opt run_opts[] = {
        {"input", 'i', CONF_STRLIST, O(inputs), NULL, NULL, "KEY=VALUE", "an input of the workflow; may be repeated", 0, 0},
        {"inputs", 0, CONF_STR, O(inputs_file), NULL, NULL, "FILE", "inputs as a JSON or YAML file; -i wins over it", 0, 0},
        {"detach", 'd', CONF_BOOL, O(detach), NULL, NULL, "", "only submit; the run goes on by itself", 0, 0},
        {"priority", 0, CONF_INT, O(priority), NULL, NULL, "N", "-100 to 100, added to the workflow's", -100, 100},
        {0},
};
static const struct conf_opt runs_opts[] = {
        {"state", 0, CONF_STR, O(state), NULL, NULL, "STATE", "queued, running, waiting, succeeded, failed or cancelled", 0, 0},
        {"workflow", 0, CONF_STR, O(workflow), NULL, NULL, "NAME", "of this workflow", 0, 0},
        {"kind", 0, CONF_STR, O(kind), NULL, NULL, "KIND", "run or call (default: both)", 0, 0},
        FLAG_LIMIT,
        {0},
};
static const struct conf_opt logs_opts[] = {
        {"follow", 'f', CONF_BOOL, O(follow), NULL, NULL, "", "go on while it runs", 0, 0},
        {"attempt", 0, CONF_INT, O(attempt), NULL, NULL, "N", "of this try (default: the last); needs STEP", 1, 0xffffffff},
        {"channel", 0, CONF_STR, O(channel), NULL, NULL, "NAME", "stdout, stderr, output (both in order), event or all (default: output; with -o json: all)", 0, 0},
        {0},
};
static const struct conf_opt exec_opts[] = {
        FLAG_AGENT, FLAG_LABELS, FLAG_TIMEOUT,
        {"env", 'e', CONF_STRLIST, O(env), NULL, NULL, "NAME=VALUE", "variable for the command; may be repeated", 0, 0},
        {"secret", 0, CONF_STRLIST, O(secrets), NULL, NULL, "NAME[=VARIABLE]", "a secret of the vault, in the command's environment; may be repeated", 0, 0},
        {"cwd", 'C', CONF_STR, O(cwd), NULL, NULL, "DIR", "folder on the agent to run it in", 0, 0},
        {"no-stdin", 'n', CONF_BOOL, O(no_stdin), NULL, NULL, "", "give the command an empty standard input", 0, 0},
        FLAG_EFFECT,
        {0},
};
static const struct conf_opt call_opts[] = {
        FLAG_AGENT, FLAG_LABELS, FLAG_TIMEOUT,
        {"input", 'i', CONF_STR, O(input), NULL, NULL, "JSON", "the tool's input as an object; @FILE or - reads it", 0, 0},
        FLAG_EFFECT,
        {0},
};
static const struct conf_opt events_opts[] = {
        {"follow", 'f', CONF_BOOL, O(follow), NULL, NULL, "", "what happens from now on, until Ctrl-C", 0, 0},
        {"after", 0, CONF_INT, O(after), "-1", NULL, "ID", "those after this event", -1, 0x7ffffffffffffff},
        FLAG_LIMIT,
        {0},
};
static const struct conf_opt cancel_opts[] = {
        {"reason", 0, CONF_STR, O(name), NULL, NULL, "TEXT", "why, for the record", 0, 0},
        {0},
};
static const struct conf_opt checkpoints_opts[] = {
        {"all", 0, CONF_BOOL, O(all), NULL, NULL, "", "also those that are over", 0, 0},
        {"run", 0, CONF_STR, O(run), NULL, NULL, "RUN", "of this run", 0, 0},
        FLAG_LIMIT,
        {0},
};
static const struct conf_opt notices_opts[] = {
        {"all", 0, CONF_BOOL, O(all), NULL, NULL, "", "also those that were delivered or given up", 0, 0},
        FLAG_LIMIT,
        {0},
};
static const struct conf_opt approve_opts[] = {
        {"always", 0, CONF_BOOL, O(always), NULL, NULL, "", "and the same action for the rest of this tool call", 0, 0},
        {"answer", 'a', CONF_STRLIST, O(answers), NULL, NULL, "NAME=VALUE", "a value that is asked for; may be repeated", 0, 0},
        {"answer-file", 0, CONF_STRLIST, O(answer_files), NULL, NULL, "NAME=FILE", "a value from a file, or from - (standard input): for secrets", 0, 0},
        {"input", 'i', CONF_STRLIST, O(inputs), NULL, NULL, "NAME=VALUE", "the same as --answer", 0, 0},
        {"content", 0, CONF_STR, O(content), NULL, NULL, "JSON", "all values as an object; @FILE or - reads it", 0, 0},
        {"sha256", 0, CONF_STR, O(sha256), NULL, NULL, "HEX", "only if its arguments have this SHA-256", 0, 0},
        {"reason", 0, CONF_STR, O(name), NULL, NULL, "TEXT", "why, for the record and for the tool", 0, 0},
        {0},
};
static const struct conf_opt reject_opts[] = {
        {"sha256", 0, CONF_STR, O(sha256), NULL, NULL, "HEX", "only if its arguments have this SHA-256", 0, 0},
        {"reason", 0, CONF_STR, O(name), NULL, NULL, "TEXT", "why, for the record and for the tool", 0, 0},
        {0},
};
static const struct conf_opt import_opts[] = {
        {"scale", 0, CONF_STR, O(scale), "1", NULL, "F", "multiplies every runtime, e.g. 0.01", 0, 0},
        {"out", 'O', CONF_STR, O(out), NULL, NULL, "FILE", "write the workflow there (default: stdout)", 0, 0},
        {"bytes", 0, CONF_STR, O(bytes), "files", NULL, "WHICH", "what a step writes: files (sizes of its output files), written (writtenBytes) or none", 0, 0},
        {"max-bytes", 0, CONF_SIZE, O(max_bytes), "0", NULL, "SIZE", "a step writes at most this; 0: no limit", 0, 0},
        {0},
};
static const struct conf_opt audit_list_opts[] = {
        {"actor", 0, CONF_STR, O(name), NULL, NULL, "NAME", "what this one did", 0, 0},
        {"action", 0, CONF_STR, O(kind), NULL, NULL, "NAME", "only this, e.g. run.cancel", 0, 0},
        FLAG_LIMIT,
        {0},
};
static const struct conf_opt audit_erase_opts[] = {
        {"actor", 0, CONF_STR, O(name), NULL, NULL, "NAME", "who did it", 0, 0},
        {"object", 0, CONF_STR, O(kind), NULL, NULL, "TEXT", "what it was done to", 0, 0},
        {0},
};
static const struct conf_opt audit_trim_opts[] = {
        {"older-than", 0, CONF_DURATION, O(ttl_ms), "365d", NULL, "TIME", "what is older goes", 1000, 0x7fffffffffff},
        {0},
};
static const struct conf_opt budget_set_opts[] = {
        {"usd", 0, CONF_STR, O(usd), NULL, NULL, "AMOUNT", "cap on money, in dollars such as 5 or 0.25", 0, 0},
        {"tokens", 0, CONF_STR, O(tokens), NULL, NULL, "N", "cap on tokens", 0, 0},
        {"over", 0, CONF_STR, O(over), NULL, NULL, "stop|ask", "what does not fit: the step fails (default), or people are asked", 0, 0},
        {"restart", 0, CONF_BOOL, O(restart), NULL, NULL, "", "count from now on (of a project or an agent)", 0, 0},
        {0},
};
static const struct conf_opt budget_ledger_opts[] = {
        {"run", 0, CONF_STR, O(run), NULL, NULL, "RUN", "of this run", 0, 0},
        {"agent", 'a', CONF_STR, O(agent), NULL, NULL, "NAME", "of this agent", 0, 0},
        {"day", 0, CONF_STR, O(day), NULL, NULL, "DATE", "of this day (UTC), such as 2026-11-29", 0, 0},
        {"state", 0, CONF_STR, O(state), NULL, NULL, "STATE", "reserved, settled or lost", 0, 0},
        FLAG_LIMIT,
        {0},
};
#define FLAG_VALUE   {"from-file", 0, CONF_STR, O(from_file), NULL, NULL, "FILE", "read it from this file, byte for byte", 0, 0}
static const struct conf_opt secret_set_opts[] = {
        FLAG_VALUE,
        {"keep", 0, CONF_INT, O(keep), NULL, NULL, "N", "so many versions stay (default 5)", 1, 100},
        {"unmasked", 0, CONF_BOOL, O(unmasked), NULL, NULL, "", "take a value shorter than 6 bytes, which cannot be masked in output", 0, 0},
        {0},
};
static const struct conf_opt vault_unlock_opts[] = {FLAG_VALUE, {0}};
static const struct conf_opt vault_rotate_opts[] = {
        {"key", 0, CONF_STR, O(kind), NULL, NULL, "KIND", "what the new master key is: file, credential or passphrase (default: as it is; file)", 0, 0},
        FLAG_VALUE,
        {0},
};
static const struct conf_opt login_opts[] = {
        {"ca-sha256", 0, CONF_STR, O(ca_sha256), NULL, NULL, "HEX", "fetch the hub's authority and pin it, if it has this SHA-256", 0, 0},
        {"token-file", 0, CONF_STR, O(token_file), NULL, NULL, "FILE", "read the token from a file, or from - (standard input)", 0, 0},
        {0},
};

const struct command commands[] = {
        {.name = "run", .args = "FILE", .summary = "run a workflow and follow it to its end", .opts = run_opts, .min_args = 1, .max_args = 1, .run = cmd_run,
         .help = "The run's id comes first, on standard error. Ctrl-C stops following, not the run.\nFILE - is standard input. Exit status: 0 succeeded, 1 failed, 2 cancelled."},
        {.name = "run show", .args = "RUN", .summary = "a run with its steps", .min_args = 1, .max_args = 1, .run = cmd_run_show},
        {.name = "run watch", .args = "RUN", .summary = "follow a run to its end", .min_args = 1, .max_args = 1, .run = cmd_run_watch},
        {.name = "run cancel", .args = "RUN", .summary = "cancel a run; its tools are stopped", .opts = cancel_opts, .min_args = 1, .max_args = 1, .run = cmd_run_cancel},
        {.name = "run retry", .args = "RUN", .summary = "run failed, cancelled and unknown steps again", .min_args = 1, .max_args = 1, .run = cmd_run_retry},
        {.name = "run explain", .args = "RUN [STEP]", .summary = "why steps went where they went, or why they wait", .min_args = 1, .max_args = 2, .run = cmd_run_explain},
        {.name = "explain", .args = "RUN [STEP]", .summary = "the same as run explain", .min_args = 1, .max_args = 2, .run = cmd_run_explain},
        {.name = "run resolve", .args = "RUN STEP retry|succeeded|failed", .summary = "decide a step whose outcome is unknown", .min_args = 3, .max_args = 3, .run = cmd_run_resolve},
        {.name = "runs", .args = "", .summary = "list runs, newest first", .opts = runs_opts, .max_args = 0, .run = cmd_runs},
        {.name = "checkpoints", .args = "", .summary = "questions to people that are open", .opts = checkpoints_opts, .max_args = 0, .run = cmd_checkpoints},
        {.name = "checkpoint show", .args = "CHECKPOINT", .summary = "one question, with the exact arguments", .min_args = 1, .max_args = 1, .run = cmd_checkpoint_show},
        {.name = "approve", .args = "CHECKPOINT", .summary = "answer a question with yes", .opts = approve_opts, .min_args = 1, .max_args = 1, .run = cmd_approve,
         .help = "The answer is bound to the SHA-256 of the arguments: of those that --sha256 names, else of those that the hub\nshows now. Look first: photon checkpoint show CHECKPOINT."},
        {.name = "checkpoint delegate", .args = "CHECKPOINT NAME", .summary = "hand the right to answer to another person", .min_args = 2, .max_args = 2, .run = cmd_checkpoint_delegate,
         .help = "Of approvals, budgets and policies only. Who hands it on cannot answer any more; the other needs the\npermission checkpoints.decide, and each person still counts once."},
        {.name = "reject", .args = "CHECKPOINT", .summary = "answer a question with no", .opts = reject_opts, .min_args = 1, .max_args = 1, .run = cmd_reject},
        {.name = "notices", .args = "", .summary = "what people are told of questions and that waits to be sent", .opts = notices_opts, .max_args = 0, .run = cmd_notices},
        {.name = "notice retry", .args = "NOTICE", .summary = "try a notice once more, now", .min_args = 1, .max_args = 1, .run = cmd_notice_retry},
        {.name = "logs", .args = "RUN [STEP]", .summary = "the bytes that tools wrote, nothing added", .opts = logs_opts, .min_args = 1, .max_args = 2, .run = cmd_logs},
        {.name = "exec", .args = "-- COMMAND [ARG...]", .summary = "run one command on an agent, with stdin, stdout and stderr", .opts = exec_opts, .max_args = 0, .tail = true, .run = cmd_exec,
         .help = "The exit status is the command's, 128+N if signal N ended it. Ctrl-C cancels the command and waits for\nits end; a second one leaves."},
        {.name = "call", .args = "TOOL", .summary = "call one tool and print its outputs as JSON", .opts = call_opts, .min_args = 1, .max_args = 1, .run = cmd_call},
        {.name = "models", .args = "", .summary = "models of all agents: what they can do, cost, and how they have done", .max_args = 0, .run = cmd_models},
        {.name = "tools", .args = "", .summary = "tools of all agents, and who has them", .max_args = 0, .run = cmd_tools},
        {.name = "validate", .args = "FILE", .summary = "check a workflow without running it", .min_args = 1, .max_args = 1, .run = cmd_validate,
         .help = "Mistakes are printed as FILE:LINE:COLUMN: MESSAGE."},
        {.name = "events", .args = "", .summary = "what happened, or happens (-f)", .opts = events_opts, .max_args = 0, .run = cmd_events},
        {.name = "mcp", .args = "", .summary = "be an MCP server on standard input and output, for a program on this machine", .max_args = 0, .run = cmd_mcp,
         .help = "One JSON-RPC message a line. All goes to the hub's /mcp under this context's token; docs/MCP.md shows how to\nset up Claude Code, Codex and Gemini CLI. It ends with its standard input."},
        {.name = "agent list", .args = "", .summary = "list agents", .max_args = 0, .run = cmd_agent_list},
        {.name = "agent show", .args = "AGENT", .summary = "one agent", .min_args = 1, .max_args = 1, .run = cmd_agent_show},
        {.name = "agent drain", .args = "AGENT", .summary = "give an agent no new work", .min_args = 1, .max_args = 1, .run = cmd_agent_drain},
        {.name = "agent undrain", .args = "AGENT", .summary = "give an agent work again", .min_args = 1, .max_args = 1, .run = cmd_agent_undrain},
        {.name = "agent revoke", .args = "AGENT", .summary = "end an agent's identity and cut its connection", .min_args = 1, .max_args = 1, .run = cmd_agent_revoke},
        {.name = "agent label", .args = "AGENT KEY=VALUE|KEY-...", .summary = "set labels; KEY- removes one", .min_args = 2, .max_args = -1, .run = cmd_agent_label},
        {.name = "agents", .args = "", .summary = "the same as agent list", .max_args = 0, .run = cmd_agent_list},
        {.name = "token create", .args = "", .summary = "make a token with which machines join; prints it alone", .opts = token_create_opts, .max_args = 0, .run = cmd_token_create},
        {.name = "token list", .args = "", .summary = "list join tokens", .max_args = 0, .run = cmd_token_list},
        {.name = "token revoke", .args = "ID", .summary = "revoke a join token", .min_args = 1, .max_args = 1, .run = cmd_token_revoke},
        {.name = "secret set", .args = "NAME", .summary = "set a secret, from standard input, a prompt or a file", .opts = secret_set_opts, .min_args = 1, .max_args = 1, .run = cmd_secret_set,
         .help = "The value is never on the command line and never shown again. From a pipe the last newline is taken off, as\nof: printf %s \"$V\" | photon secret set NAME. A step gets it by naming it: secrets: [NAME]."},
        {.name = "secret rotate", .args = "NAME", .summary = "give a secret that is there a new value", .opts = secret_set_opts, .min_args = 1, .max_args = 1, .run = cmd_secret_rotate},
        {.name = "secret list", .args = "", .summary = "names and versions of secrets, never their values", .max_args = 0, .run = cmd_secret_list},
        {.name = "secret show", .args = "NAME", .summary = "one secret: its versions, without a value", .min_args = 1, .max_args = 1, .run = cmd_secret_show},
        {.name = "secret delete", .args = "NAME", .summary = "remove a secret and all its versions", .min_args = 1, .max_args = 1, .run = cmd_secret_delete},
        {.name = "vault status", .args = "", .summary = "is the vault open, and under which keys", .max_args = 0, .run = cmd_vault_status},
        {.name = "vault unlock", .args = "", .summary = "open the vault: asks for its passphrase, or has the hub look for its key again", .opts = vault_unlock_opts, .max_args = 0, .run = cmd_vault_unlock},
        {.name = "vault lock", .args = "", .summary = "have the hub forget the vault's keys; steps that need a secret wait", .max_args = 0, .run = cmd_vault_lock},
        {.name = "vault rotate", .args = "data|master", .summary = "a new data key or a new master key, while the hub serves", .opts = vault_rotate_opts, .min_args = 1, .max_args = 1, .run = cmd_vault_rotate,
         .help = "data: new values are sealed under a new data key, older ones are sealed anew in the background.\nmaster: every data key is wrapped anew. --key passphrase asks for one, which photon vault unlock then\nneeds after each start of the hub; --key file goes back to a file."},
        {.name = "api-token create", .args = "", .summary = "make a token for a person or a script; prints it alone", .opts = api_token_create_opts, .max_args = 0, .run = cmd_api_token_create},
        {.name = "api-token list", .args = "", .summary = "list API tokens", .opts = own_opts, .max_args = 0, .run = cmd_api_token_list},
        {.name = "api-token revoke", .args = "ID", .summary = "revoke an API token", .opts = own_opts, .min_args = 1, .max_args = 1, .run = cmd_api_token_revoke},
        {.name = "user create", .args = "NAME", .summary = "make a user or a service; it has no role yet", .opts = user_create_opts, .min_args = 1, .max_args = 1, .run = cmd_user_create},
        {.name = "user list", .args = "", .summary = "list users and services with their roles", .max_args = 0, .run = cmd_user_list},
        {.name = "user grant", .args = "USER ROLE", .summary = "give a role in --project; '*' is all of them, and the hub", .min_args = 2, .max_args = 2, .run = cmd_user_grant,
         .help = "Roles: client, operator, technical-operator, admin."},
        {.name = "user ungrant", .args = "USER", .summary = "take the role in --project away", .min_args = 1, .max_args = 1, .run = cmd_user_ungrant},
        {.name = "user disable", .args = "USER", .summary = "make all of a user's tokens and logins invalid", .min_args = 1, .max_args = 1, .run = cmd_user_disable},
        {.name = "user enable", .args = "USER", .summary = "make them valid again", .min_args = 1, .max_args = 1, .run = cmd_user_enable},
        {.name = "user delete", .args = "USER", .summary = "delete a user for good; nobody else gets the name", .min_args = 1, .max_args = 1, .run = cmd_user_delete,
         .help = "Tokens and logins end at once. What runs, approvals and the audit say of them stays (photon audit\nerase --actor removes it there). Users are not renamed: the name is what approvals know them by."},
        {.name = "project create", .args = "NAME", .summary = "make a project", .opts = project_create_opts, .min_args = 1, .max_args = 1, .run = cmd_project_create},
        {.name = "project list", .args = "", .summary = "list the projects in which I have a role", .max_args = 0, .run = cmd_project_list},
        {.name = "project members", .args = "NAME", .summary = "list who has a role in a project", .min_args = 1, .max_args = 1, .run = cmd_project_members},
        {.name = "project archive", .args = "NAME", .summary = "take no new work for a project", .min_args = 1, .max_args = 1, .run = cmd_project_archive},
        {.name = "project unarchive", .args = "NAME", .summary = "take new work for it again", .min_args = 1, .max_args = 1, .run = cmd_project_unarchive},
        {.name = "audit list", .args = "", .summary = "who did what, newest first", .opts = audit_list_opts, .max_args = 0, .run = cmd_audit_list},
        {.name = "audit export", .args = "", .summary = "all records as lines of JSON, checked on their way", .max_args = 0, .run = cmd_audit_export},
        {.name = "audit verify", .args = "[FILE]", .summary = "prove that no record was changed: in the hub, or in an export", .max_args = 1, .local = true, .run = cmd_audit_verify,
         .help = "With FILE (- is standard input) no hub is needed. Keep the head that it prints elsewhere: a chain\nthat was written anew from its beginning has another one. Exit status 1: the first bad record is named."},
        {.name = "audit erase", .args = "", .summary = "erase a person or a thing from all records; the chain stays provable", .opts = audit_erase_opts, .max_args = 0, .run = cmd_audit_erase},
        {.name = "audit trim", .args = "", .summary = "remove old records; the chain stays provable", .opts = audit_trim_opts, .max_args = 0, .run = cmd_audit_trim},
        {.name = "budget list", .args = "", .summary = "budgets: their caps, what is spent, reserved and left", .max_args = 0, .run = cmd_budget_list},
        {.name = "budget show", .args = "BUDGET", .summary = "one budget", .min_args = 1, .max_args = 1, .run = cmd_budget_show},
        {.name = "budget set", .args = "BUDGET", .summary = "cap what may be spent", .opts = budget_set_opts, .min_args = 1, .max_args = 1, .run = cmd_budget_set,
         .help = "BUDGET is run (each run), project:NAME, agent:NAME, day (of the hub) or day:PROJECT. Days are days of UTC.\nWhat runs already goes on; nothing more begins that does not fit."},
        {.name = "budget delete", .args = "BUDGET", .summary = "take a cap away", .min_args = 1, .max_args = 1, .run = cmd_budget_delete},
        {.name = "budget ledger", .args = "", .summary = "what attempts reserved and spent, newest first", .opts = budget_ledger_opts, .max_args = 0, .run = cmd_budget_ledger},
        {.name = "import wfformat", .args = "FILE", .summary = "turn a WfFormat 1.5 instance into a workflow", .opts = import_opts, .min_args = 1, .max_args = 1, .local = true, .run = cmd_import_wfformat,
         .help = "Each task becomes a step that sleeps for its measured runtime times F and writes its measured bytes\nto standard output. No hub is needed."},
        {.name = "login", .args = "", .summary = "log in at a hub (--hub), by its identity provider or with --token", .opts = login_opts, .max_args = 0, .local = true, .run = cmd_login,
         .help = "Without a token the hub's identity provider is asked: open the address it shows, on any device, and\ntype the code. What works is kept; an earlier context stays when this one does not."},
        {.name = "logout", .args = "", .summary = "end the login, and forget the hub", .max_args = 0, .local = true, .run = cmd_logout},
        {.name = "whoami", .args = "", .summary = "whose token this is and what it allows", .max_args = 0, .run = cmd_whoami},
        {.name = "completion", .args = "bash|zsh|fish", .summary = "print the shell's completion script", .min_args = 1, .max_args = 1, .local = true, .run = cmd_completion},
        {.name = "version", .args = "", .summary = "the version of this command, and of the hub if there is one", .max_args = 0, .local = true, .run = cmd_version},
        {.name = "help", .args = "[COMMAND...]", .summary = "about a command; -o json: all of them", .max_args = 2, .local = true, .run = cmd_help},
        {0},
};
/* clang-format on */

static void list_commands(FILE *f, const char *group)
{
        size_t width = 0, n = group ? strlen(group) : 0;
        char head[96];

        for (int pass = 0; pass < 2; pass++) {
                for (const struct command *c = commands; c->name; c++) {
                        if (c->hidden ||
                            (group && (strncmp(c->name, group, n) != 0 || (c->name[n] && c->name[n] != ' '))))
                                continue;
                        snprintf(head, sizeof head, "photon %s %s", c->name, c->args);
                        if (!pass && strlen(head) > width && strlen(head) < 44)
                                width = strlen(head);
                        if (pass)
                                fprintf(f, "  %-*s  %s\n", (int)width, head, c->summary);
                }
        }
}

void help_top(FILE *f)
{
        fputs("photon: run tools and workflows on your machines\n\n", f);
        list_commands(f, NULL);
        fputs("\nEverywhere:\n", f);
        conf_help(f, global_opts);
        fputs("\nphoton COMMAND --help says more about one of them. Exit status: 0 ok, 1 failed, 2 "
              "cancelled, 4 not allowed,\n"
              "64 wrong usage, 69 hub not reachable. First time: photon login --hub URL --token TOKEN "
              "--ca-sha256 HEX\n",
              f);
}

void help_command(FILE *f, const struct command *cmd)
{
        fprintf(f, "photon %s%s%s%s\n  %s\n", cmd->name, cmd->opts ? " [flags]" : "", *cmd->args ? " " : "",
                cmd->args, cmd->summary);
        if (cmd->help)
                fprintf(f, "\n%s\n", cmd->help);
        if (cmd->opts) {
                fputs("\nFlags:\n", f);
                conf_help(f, cmd->opts);
        }
        fputs("\nEverywhere:\n", f);
        conf_help(f, global_opts);
        if (strcmp(cmd->name, "run") == 0) {
                fputs("\nMore about runs:\n", f);
                list_commands(f, "run");
        }
}

bool help_group(FILE *f, const char *word)
{
        size_t n = strlen(word);
        bool any = false;

        for (const struct command *c = commands; c->name; c++)
                any = any || (strncmp(c->name, word, n) == 0 && c->name[n] == ' ');
        if (any)
                list_commands(f, word);
        return any;
}

static cJSON *flags_json(const struct conf_opt *opts)
{
        cJSON *list = cJSON_CreateArray();

        for (const struct conf_opt *o = opts; o && o->name; o++) {
                cJSON *f = cJSON_CreateObject();
                char letter[2] = {o->shortname, '\0'};

                cJSON_AddStringToObject(f, "name", o->name);
                if (o->shortname)
                        cJSON_AddStringToObject(f, "letter", letter);
                cJSON_AddStringToObject(f, "value", o->metavar ? o->metavar : "");
                cJSON_AddStringToObject(f, "help", o->help);
                if (o->def)
                        cJSON_AddStringToObject(f, "default", o->def);
                cJSON_AddItemToArray(list, f);
        }
        return list;
}

int help_json(struct err *e)
{
        cJSON *doc = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(doc, "commands");

        if (!list) {
                cJSON_Delete(doc);
                return err_set(e, E_NOMEM, "no memory");
        }
        cJSON_AddItemToObject(doc, "flags", flags_json(global_opts));
        for (const struct command *c = commands; c->name; c++) {
                cJSON *o = cJSON_CreateObject();

                cJSON_AddStringToObject(o, "name", c->name);
                cJSON_AddStringToObject(o, "args", c->args);
                cJSON_AddStringToObject(o, "summary", c->summary);
                cJSON_AddItemToObject(o, "flags", flags_json(c->opts));
                cJSON_AddItemToArray(list, o);
        }
        print_json(doc);
        cJSON_Delete(doc);
        return 0;
}
