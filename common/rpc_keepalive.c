/* How often to ping is the hub's to say, in its answer to the first call: so it
 * must be possible to change it on a connection that is there. */
#include "common/rpc_impl.h"

void rpc_conn_set_keepalive(struct rpc_conn *c, int ms)
{
        c->o.keepalive_ms = ms;
        if (ms > 0 && (c->state == RPC_READY || c->state == RPC_DRAINING))
                rpc_conn_timer(c, rpc_now(c) + ms);
}
