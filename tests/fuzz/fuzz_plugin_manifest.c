/* plugin_manifest_parse: no text may crash the agent; what is refused says why, what
 * is accepted has all that a tool needs. */
#include "agent/tools/plugin_manifest.h"
#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct plugin_manifest m = {0};
        struct err e = {0};
        char *program;

        if (plugin_manifest_parse((const char *)data, size, &m, &e) != 0) {
                if (!e.msg[0])
                        abort();
                return 0;
        }
        if (!m.name || !strchr(m.name, '.') || !m.version || !m.description || !m.command || !m.command[0] ||
            !m.input_schema || !m.output_schema || !m.effect || m.timeout_ms < 0 || m.stall_ms < 0)
                abort();
        program = plugin_program(&m, "/etc/photon/tools.d/x.yaml");
        if (!program)
                abort();
        mem_free(program);
        plugin_manifest_fini(&m);
        return 0;
}
