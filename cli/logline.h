/* One line of a log in the API's JSON form: a piece of what a step wrote, with its
 * place in it. One thread. */
#ifndef PHOTON_CLI_LOGLINE_H
#define PHOTON_CLI_LOGLINE_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct log_line {
        cJSON *doc;
        const char *step;
        int64_t attempt, offset; /* offset counts all channels */
        bool err;                /* stderr, else stdout or event */
        bool is_event;           /* of the channel for events; `event` is NULL when it is none we can read */
        const cJSON *event;
        const uint8_t *data; /* NULL for events */
        size_t len;          /* bytes that it took in the log */
        uint8_t *decoded;
};

/* -E_PROTO, -E_NOMEM. */
int log_line_parse(const char *text, size_t n, struct log_line *out);
void log_line_fini(struct log_line *l);

#endif
