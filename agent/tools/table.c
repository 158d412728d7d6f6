/* Every tool of this agent, in one place. A new tool is a row here, a file
 * beside this one, and a section in docs/TOOLS.md (a test looks). */
#include "agent/tools/acp.h"
#include "agent/tools/ai_run.h"
#include "agent/tools/claude.h"
#include "agent/tools/codex.h"
#include "agent/tools/ask.h"
#include "agent/tools/browser.h"
#include "agent/tools/curl.h"
#include "agent/tools/cursor.h"
#include "agent/tools/discover.h"
#include "agent/tools/echo.h"
#include "agent/tools/file.h"
#include "agent/tools/http.h"
#include "agent/tools/jules.h"
#include "agent/tools/llm.h"
#include "agent/tools/llm_input.h"
#include "agent/tools/process.h"
#include "agent/tools/spawn.h"

static const char any_object[] = "{\"type\":\"object\"}";

#define BROWSER_TOOL(name_, text)                                                                            \
        {                                                                                                    \
                .name = "browser." #name_, .version = "1", .effect = "at-most-once", .description = text,    \
                .input_schema = browser_##name_##_input, .output_schema = browser_##name_##_output,          \
                .available = browser_available, .install = "apt install chromium-headless-shell",            \
                .permit = browser_permit, .start = browser_start, .cancel = browser_cancel,                  \
                .free = browser_free                                                                         \
        }

const struct tool tools[] = {
        {
                .name = "process.exec",
                .version = "1",
                .effect = "at-most-once",
                .description = "Runs a command (argv) or a shell text and streams its output.",
                .input_schema = process_input_schema,
                .output_schema = process_output_schema,
                .secret_files = true,
                .permit = process_permit,
                .start = process_start,
                .cancel = process_cancel,
                .stdin_data = process_stdin_data,
                .output_room = process_output_room,
                .free = process_free,
        },
        {
                .name = "file.read",
                .version = "1",
                .effect = "pure",
                .no_scratch = true,
                .description = "Reads a file or a range of it, as text or base64.",
                .input_schema = file_read_input,
                .output_schema = file_read_output,
                .permit = file_permit_read,
                .start = file_read_start,
                .cancel = file_cancel,
                .free = file_free,
        },
        {
                .name = "file.write",
                .version = "1",
                .effect = "idempotent",
                .no_scratch = true,
                .description = "Writes a whole file atomically, or appends to one.",
                .input_schema = file_write_input,
                .output_schema = file_write_output,
                .permit = file_permit_write,
                .start = file_write_start,
                .cancel = file_cancel,
                .free = file_free,
        },
        {
                .name = "file.list",
                .version = "1",
                .effect = "pure",
                .no_scratch = true,
                .description = "Lists a folder, also with all below it.",
                .input_schema = file_list_input,
                .output_schema = file_list_output,
                .permit = file_permit_read,
                .start = file_list_start,
                .cancel = file_cancel,
                .free = file_free,
        },
        {
                .name = "file.stat",
                .version = "1",
                .effect = "pure",
                .no_scratch = true,
                .description = "Says whether a file exists and what it is.",
                .input_schema = file_stat_input,
                .output_schema = file_stat_output,
                .permit = file_permit_stat,
                .start = file_stat_start,
                .cancel = file_cancel,
                .free = file_free,
        },
        {
                .name = "file.delete",
                .version = "1",
                .effect = "at-most-once",
                .no_scratch = true,
                .description = "Deletes a file, a symbolic link or a folder.",
                .input_schema = file_delete_input,
                .output_schema = file_delete_output,
                .permit = file_permit_delete,
                .start = file_delete_start,
                .cancel = file_cancel,
                .free = file_free,
        },
        {
                .name = "file.patch",
                .version = "1",
                .effect = "at-most-once",
                .no_scratch = true,
                .description = "Changes a text file by exact edits or a unified diff, all or nothing.",
                .input_schema = file_patch_input,
                .output_schema = file_patch_output,
                .permit = file_permit_patch,
                .start = file_patch_start,
                .cancel = file_cancel,
                .free = file_free,
        },
        {
                .name = "http.request",
                .version = "1",
                .effect = "at-most-once",
                .no_scratch = true,
                .description = "Sends an HTTP request and returns the answer.",
                .input_schema = http_input_schema,
                .output_schema = http_output_schema,
                .permit = http_request_permit,
                .start = http_request_start,
                .cancel = http_request_cancel,
                .free = http_request_free,
        },
        {
                .name = "llm.chat",
                .version = "1",
                .effect = "idempotent",
                .no_scratch = true,
                .description = "Asks a model at an endpoint of this agent, and streams its answer.",
                .input_schema = llm_chat_input,
                .output_schema = llm_chat_output,
                .describe = llm_describe,
                .permit = llm_chat_permit,
                .start = llm_chat_start,
                .cancel = llm_cancel,
                .output_room = llm_output_room,
                .free = llm_free,
        },
        {
                .name = "zai.chat",
                .version = "1",
                .effect = "idempotent",
                .no_scratch = true,
                .description = "Asks a model of Z.AI, and streams its answer.",
                .input_schema = zai_chat_input,
                .output_schema = llm_chat_output,
                .describe = zai_describe,
                .permit = zai_chat_permit,
                .start = zai_chat_start,
                .cancel = llm_cancel,
                .output_room = llm_output_room,
                .free = llm_free,
        },
        {
                .name = "claude-code.prompt",
                .version = "1",
                .effect = "at-most-once",
                .description = "Has Claude Code do something in a folder, and asks people what it may.",
                .input_schema = claude_input_schema,
                .output_schema = claude_output_schema,
                .describe = discover_describe,
                .available = discover_has_claude,
                .install = "install it with npm install -g @anthropic-ai/claude-code, and log in with claude",
                .permit = claude_permit,
                .start = claude_start,
                .cancel = ai_run_cancel,
                .output_room = ai_run_room,
                .free = ai_run_free,
        },
        {
                .name = "codex.prompt",
                .version = "1",
                .effect = "at-most-once",
                .description = "Has Codex do something in a folder, and asks people what it may.",
                .input_schema = codex_input_schema,
                .output_schema = codex_output_schema,
                .describe = discover_describe,
                .available = discover_has_codex,
                .install = "install it with npm install -g @openai/codex, and log in with codex login",
                .permit = codex_permit,
                .start = codex_start,
                .cancel = ai_run_cancel,
                .output_room = ai_run_room,
                .free = ai_run_free,
        },
        {
                .name = "jules.session",
                .version = "1",
                .effect = "at-most-once",
                .no_scratch = true,
                .description = "Has Jules work on a repository, and follows it to its end.",
                .input_schema = jules_input,
                .output_schema = jules_output,
                .describe = jules_describe,
                .permit = jules_permit,
                .start = jules_start,
                .cancel = jules_cancel,
                .free = jules_free,
        },
        {
                .name = "photon.echo",
                .version = "1",
                .effect = "pure",
                .no_scratch = true,
                .description = "Returns its input; to see that an agent answers, and how fast.",
                .input_schema = any_object,
                .output_schema = any_object,
                .permit = echo_permit,
                .start = echo_start,
                .cancel = echo_cancel,
                .free = echo_free,
        },
        {
                .name = "acp.prompt",
                .version = "1",
                .effect = "at-most-once",
                .description = "Asks an AI agent that speaks the Agent Client Protocol.",
                .input_schema = acp_input_schema,
                .output_schema = acp_output_schema,
                .describe = discover_describe,
                .permit = acp_permit,
                .start = acp_start,
                .cancel = acp_cancel,
                .output_room = acp_output_room,
                .free = acp_free,
        },
        {
                .name = "cursor.prompt",
                .version = "1",
                .effect = "at-most-once",
                .description = "Has Cursor do something in a folder of this machine.",
                .input_schema = acp_known_input_schema,
                .output_schema = acp_output_schema,
                .describe = discover_describe,
                .available = discover_has_cursor_agent,
                .install = "install Cursor's command line from cursor.com/cli, and log in with cursor-agent "
                           "login",
                .permit = cursor_permit,
                .start = cursor_start,
                .cancel = cursor_cancel,
                .output_room = cursor_output_room,
                .free = cursor_free,
        },
        {
                .name = "cursor.open",
                .version = "1",
                .effect = "idempotent",
                .no_scratch = true,
                .description = "Shows a folder or a file in Cursor's window on this machine.",
                .input_schema = cursor_open_input,
                .output_schema = cursor_open_output,
                .describe = discover_describe,
                .available = discover_has_cursor,
                .install = "install Cursor from cursor.com, and its command `cursor`",
                .permit = cursor_open_permit,
                .start = cursor_open_start,
                .cancel = cursor_open_cancel,
                .free = cursor_open_free,
        },
        {
                .name = "gemini.prompt",
                .version = "1",
                .effect = "at-most-once",
                .description = "Asks Gemini CLI to do something in a folder of this machine.",
                .input_schema = acp_known_input_schema,
                .output_schema = acp_output_schema,
                .describe = discover_describe,
                .available = discover_has_gemini,
                .install = "install it with npm install -g @google/gemini-cli, and log in with gemini",
                .permit = gemini_permit,
                .start = gemini_start,
                .cancel = acp_cancel,
                .output_room = acp_output_room,
                .free = acp_free,
        },
        {
                .name = "photon.ask",
                .version = "1",
                .effect = "idempotent",
                .no_scratch = true,
                .description = "Asks people for permission or for values, and returns their answer.",
                .input_schema = ask_input_schema,
                .output_schema = ask_output_schema,
                .permit = ask_permit,
                .start = ask_start,
                .cancel = ask_cancel,
                .free = ask_free,
        },
        BROWSER_TOOL(run, "Does a list of actions in one page of a browser."),
        BROWSER_TOOL(navigate, "Opens a page in a browser."),
        BROWSER_TOOL(text, "Gives the text of a page, or of a part of it."),
        BROWSER_TOOL(click, "Clicks on an element of a page."),
        BROWSER_TOOL(type, "Types text into a field of a page."),
        BROWSER_TOOL(wait, "Waits until a page is loaded, or has an element."),
        BROWSER_TOOL(screenshot, "Takes a picture of a page."),
        BROWSER_TOOL(pdf, "Prints a page as PDF."),
        {.name = NULL},
};

void tools_stop(void)
{
        browser_stop();
}

void tools_close(void)
{
        discover_close();
        curl_close();
        spawn_close();
}
