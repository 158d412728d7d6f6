/* The road of a new run from a parsed request to the engine and back; runs and
 * calls share it. */
#ifndef PHOTON_HTTP_SUBMIT_H
#define PHOTON_HTTP_SUBMIT_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct http_req;
struct workflow;

struct submit {
        char *text; /* the definition as given; mem_free'd */
        size_t len;
        struct workflow *wf;
        cJSON *inputs;
        const char *kind; /* "run" | "call" */
        int64_t priority;
        bool stdin_follows;
        /* inside */
        bool wait, steps;
        int64_t timeout_ms;
        char run_id[64];
        bool finish_owed;
};

struct submit *submit_create(void);
void submit_free(void *submit);
/* Reads wait, timeout and steps, and hands over to the loop. Takes s, on failure too. HTTP thread. */
int submit_go(struct http_req *q, struct submit *s, struct err *e);

#endif
