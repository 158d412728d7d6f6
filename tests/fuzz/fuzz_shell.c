/* shell_read: no text may crash it; each command is in the text's words, and what is certain holds nothing
 * that a shell would expand. */
#include "agent/policy_shell.h"
#include "common/mem.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        char *text = mem_strndup((const char *)data, size);
        struct shell_text t;

        if (!text)
                abort();
        if (shell_read(text, &t) == 0) {
                for (size_t i = 0; i < t.n; i++)
                        if (t.v[i].name_len > strlen(t.v[i].text))
                                abort();
                if (t.n_words > SHELL_WORDS || t.n > t.n_words)
                        abort();
                if (!t.unclear && (strchr(text, '`') || strchr(text, '$')) && !strchr(text, '\'') &&
                    !strchr(text, '\\'))
                        abort();
                shell_fini(&t);
        }
        mem_free(text);
        return 0;
}
