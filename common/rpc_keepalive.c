/* Is the peer still there? A connection that was silent for keepalive_ms is
 * pinged; one that was silent for twice as long is dead. How often to ask is the
 * hub's to say, in its answer to the first call: so it can be changed on a
 * connection that is there. */
#include <stdio.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/rpc_impl.h"

void rpc_check_alive(struct rpc_conn *c, int64_t now)
{
        uint64_t in = c->wire->bytes_in(c->w);
        size_t queued = c->wire->queued(c->w);
        char why[96];

        /* Part of a large frame is a sign of life too, and while we do not read,
         * progress in sending is. */
        if (now - c->last_rx >= c->o.keepalive_ms &&
            (in != c->seen_in || (c->paused && queued != c->seen_queued))) {
                c->last_rx = now;
                c->pinged = false;
        }
        c->seen_in = in;
        c->seen_queued = queued;
        if (now - c->last_rx >= 2LL * c->o.keepalive_ms) {
                snprintf(why, sizeof why, "nothing came from the peer for %d ms", 2 * c->o.keepalive_ms);
                c->wire->close(c->w, 0, E_TIMEOUT, why);
                return;
        }
        if (now - c->last_rx >= c->o.keepalive_ms && !c->pinged) {
                uint8_t sent_at[8];

                u64be_store(sent_at, uv_hrtime() / 1000);
                rpc_control(c, RPC_PING, 0, sent_at, sizeof sent_at);
                c->pinged = true;
        }
        rpc_conn_timer(c, c->last_rx + (c->pinged ? 2LL : 1LL) * c->o.keepalive_ms);
}

void rpc_conn_set_keepalive(struct rpc_conn *c, int ms)
{
        c->o.keepalive_ms = ms;
        if (ms > 0 && (c->state == RPC_READY || c->state == RPC_DRAINING))
                rpc_conn_timer(c, rpc_now(c) + ms);
}
