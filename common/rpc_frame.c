#include "common/rpc_frame.h"

#include "common/buf.h"
#include "common/err.h"
#include "common/rpc.h"

enum { ON_CONN = 1, ON_STREAM = 2 };

static const struct {
        uint8_t where, flags;
        uint32_t min, max; /* payload */
} rules[] = {
        [RPC_PREFACE] = {ON_CONN, 0, 0, 4096},
        [RPC_HEADERS] = {ON_STREAM, 0, 1, RPC_FRAME_MAX},
        [RPC_DATA] = {ON_STREAM, RPC_FLAG_MORE, 0, RPC_FRAME_MAX},
        [RPC_END] = {ON_STREAM, 0, 0, 0},
        [RPC_STATUS] = {ON_STREAM, 0, 0, RPC_FRAME_MAX},
        [RPC_CANCEL] = {ON_STREAM, 0, 0, 4096},
        [RPC_CREDIT] = {ON_CONN | ON_STREAM, 0, 4, 4},
        [RPC_PING] = {ON_CONN, 0, 8, 8},
        [RPC_PONG] = {ON_CONN, 0, 8, 8},
        [RPC_GOODBYE] = {ON_CONN, 0, 0, 4096},
};

void rpc_frame_head(uint8_t out[RPC_FRAME_HEAD], uint8_t type, uint8_t flags, uint32_t stream)
{
        out[0] = type;
        out[1] = flags;
        out[2] = out[3] = 0;
        u32be_store(out + 4, stream);
}

static int bad(const char **why, const char *text)
{
        *why = text;
        return -E_PROTO;
}

int rpc_frame_decode(const uint8_t *p, size_t n, struct rpc_frame *out, const char **why)
{
        struct rpc_frame f = {0};

        if (n < RPC_FRAME_HEAD)
                return bad(why, "a frame is shorter than its header");
        f.type = p[0];
        f.flags = p[1];
        f.stream = u32be_load(p + 4);
        f.p = p + RPC_FRAME_HEAD;
        f.n = n - RPC_FRAME_HEAD;
        if (f.n > RPC_FRAME_MAX)
                return bad(why, "a frame is longer than allowed");
        if (f.type == 0 || f.type >= sizeof rules / sizeof rules[0]) {
                if (!(f.flags & RPC_FLAG_OPTIONAL))
                        return bad(why, "a frame is of a type that is not known here");
                f.ignore = true;
                *out = f;
                return 0;
        }
        if (p[2] || p[3] || (f.flags & ~(rules[f.type].flags | RPC_FLAG_OPTIONAL)))
                return bad(why, "a frame has reserved bits set");
        if (!(rules[f.type].where & (f.stream ? ON_STREAM : ON_CONN)))
                return bad(why, f.stream ? "a frame for the connection names a stream"
                                         : "a frame names no stream");
        if (f.n < rules[f.type].min || f.n > rules[f.type].max)
                return bad(why, "a frame's length does not fit its type");
        if (f.type == RPC_CREDIT && (u32be_load(f.p) == 0 || u32be_load(f.p) > INT32_MAX))
                return bad(why, "a grant of credit is zero or too large");
        *out = f;
        return 0;
}
