/* Every tool of this agent, in one place. A new tool is a row here, a file
 * beside this one, and a section in docs/TOOLS.md (a test looks). */
#include "agent/tools/curl.h"
#include "agent/tools/echo.h"
#include "agent/tools/file.h"
#include "agent/tools/http.h"
#include "agent/tools/process.h"
#include "agent/tools/spawn.h"

static const char any_object[] = "{\"type\":\"object\"}";

const struct tool tools[] = {
        {
                .name = "process.exec",
                .version = "1",
                .effect = "at-most-once",
                .description = "Runs a command (argv) or a shell text and streams its output.",
                .input_schema = process_input_schema,
                .output_schema = process_output_schema,
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
        {.name = NULL},
};

void tools_close(void)
{
        curl_close();
        spawn_close();
}
