/* targets_parse and what is said to whom: no section may crash the hub; what is refused has a place; what is
 * accepted is https, or this machine's, and every target of it can be written to. */
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/mem.h"
#include "hub/notify/notice_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void tell(const struct target *t, const char *base)
{
        struct engine_notice n = {.event = "checkpoint.open",
                                  .checkpoint_id = "c1",
                                  .kind = "approval",
                                  .title = "Ship?\r\n.\r\n<!here>",
                                  .sha256 = "aa",
                                  .run_id = "r1",
                                  .step_id = "s",
                                  .workflow = "w",
                                  .project = "p",
                                  .asked_by = "tim",
                                  .at_us = 1,
                                  .expires_us = 2};
        char *body = notice_body(t, &n, "msg_1", base);

        if (!body || !*body)
                abort();
        if (t->type == TARGET_SMTP && strstr(body, "\r\n.\r\n"))
                abort();
        mem_free(body);
        (void)target_wants(t, &n);
        if (t->type == TARGET_WEBHOOK && !t->n_keys)
                abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct targets t;
        struct err e = {0};

        if (targets_parse((const char *)data, size, "hub.yaml", &t, &e)) {
                if (!e.msg[0])
                        abort();
                return 0;
        }
        for (size_t i = 0; i < t.n; i++)
                tell(&t.v[i], t.url);
        targets_fini(&t);
        return 0;
}
