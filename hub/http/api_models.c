/* The models of all agents: what they offer, cost, and how they have done. */
#include "common/json.h"
#include "hub/http/api.h"
#include "hub/http/request.h"
#include "hub/sched/engine.h"

static void list_on_loop(struct http_req *q)
{
        struct err e = {0};

        q->json = engine_models(q->h->o.engine);
        req_done(q, q->json ? 0 : err_set(&e, E_NOMEM, "out of memory"), &e);
}

static int list_after(struct http_req *q, struct err *e)
{
        cJSON *all = q->json;

        q->json = NULL;
        return req_page(q, all, "id", e);
}

int api_models_list(struct http_req *q, struct err *e)
{
        (void)e;
        req_hop(q, list_on_loop, list_after);
        return 0;
}
