#include "cli/logline.h"

#include <string.h>

#include "cli/print.h"
#include "common/err.h"
#include "common/json.h"
#include "common/mem.h"
#include "common/str.h"

int log_line_parse(const char *text, size_t n, struct log_line *out)
{
        struct log_line l = {0};
        const char *data;
        bool has_event;
        int rc = json_parse(text, n, &l.doc, NULL);

        if (rc)
                return rc == -E_NOMEM ? rc : -E_PROTO;
        data = cJSON_GetStringValue(jget(l.doc, "data"));
        l.is_event = strcmp(jstr(l.doc, "channel"), "event") == 0;
        has_event = l.is_event && cJSON_IsObject(jget(l.doc, "event")) && jnum(l.doc, "length") > 0;
        if ((!data && !has_event) || !*jstr(l.doc, "step")) {
                cJSON_Delete(l.doc);
                return -E_PROTO;
        }
        l.step = jstr(l.doc, "step");
        l.attempt = jnum(l.doc, "attempt");
        l.offset = jnum(l.doc, "offset");
        l.err = strcmp(jstr(l.doc, "channel"), "stderr") == 0;
        if (has_event) {
                l.event = jget(l.doc, "event");
                l.len = (size_t)jnum(l.doc, "length");
                *out = l;
                return 0;
        }
        l.data = (const uint8_t *)data;
        l.len = strlen(data);
        if (strcmp(jstr(l.doc, "encoding"), "base64") == 0) {
                rc = str_unb64(data, l.len, &l.decoded, &l.len);
                l.data = l.decoded;
        }
        if (rc) {
                cJSON_Delete(l.doc);
                return rc == -E_NOMEM ? rc : -E_PROTO;
        }
        *out = l;
        return 0;
}

void log_line_fini(struct log_line *l)
{
        cJSON_Delete(l->doc);
        mem_free(l->decoded);
}
