/* A plug-in's lines: whatever it writes, nothing crashes, and what is no event says why. */
#include "agent/tools/plugin_event.h"
#include "common/err.h"
#include "common/log.h"
#include "common/mem.h"
#include "tests/fuzz/no_secrets.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Instead of the job's. */
int tool_output(struct tool_call *c, enum tool_channel ch, const void *p, size_t n)
{
        (void)c;
        (void)ch;
        return p || n == 0 ? 0 : -E_FULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static const struct tool row = {.name = "fuzz.it"};
        struct tool_call c = {.tool = &row, .traceparent = ""};
        struct plugin_event v;
        struct err e = {0};
        char *line = mem_strndup((const char *)data, size);

        mem_install_hooks();
        if (!line)
                abort();
        if (plugin_event_read(&c, line, strlen(line), &v, &e) == 0) {
                if ((v.kind == PLUGIN_EVENT_RESULT && !cJSON_IsObject(v.outputs)) ||
                    (v.kind == PLUGIN_EVENT_ERROR && (!v.code[0] || !v.message[0])) ||
                    (v.kind == PLUGIN_EVENT_QUESTION && (!v.id[0] || !v.question.title)))
                        abort();
                plugin_event_fini(&v);
        } else if (!e.msg[0]) {
                abort();
        }
        mem_free(line);
        return 0;
}
