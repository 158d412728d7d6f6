/* Join tokens are pasted by people: any text must be refused or mean the same when written again. */
#include "common/jointoken.h"
#include "common/mem.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        char *text = mem_strndup((const char *)data, size), *again = NULL;
        struct join_token t, u;

        if (!text)
                return 0;
        if (join_token_parse(text, &t, NULL) == 0 && join_token_format(&t, &again, NULL) == 0) {
                if (join_token_parse(again, &u, NULL) || strcmp(t.id, u.id) != 0 ||
                    t.secret_len != u.secret_len || memcmp(t.secret, u.secret, t.secret_len) != 0 ||
                    strcmp(t.agent, u.agent) != 0)
                        abort();
        }
        mem_free(again);
        mem_free(text);
        return 0;
}
