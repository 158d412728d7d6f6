/* photon mcp: an MCP server on standard input and output. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/client.h"
#include "cli/interrupt.h"
#include "cli/mcp_bridge.h"
#include "cli/print.h"
#include "common/buf.h"
#include "common/clock.h"

#define PIECE    (64u << 10)
#define GRACE_MS 2000 /* for answers, when the input has ended; and for taking leave of the hub */

struct input {
        struct buf line;
        bool skipping; /* the rest of a line that is too long */
        bool eof;
};

static bool put_line(void *ctx, const char *line, size_t n)
{
        (void)ctx;
        return write_wanted(STDOUT_FILENO, line, n) && write_wanted(STDOUT_FILENO, "\n", 1);
}

static int take(struct input *in, struct mcp_bridge *b, const char *p, size_t n, struct err *e)
{
        int rc = 0;

        while (n && !rc) {
                const char *nl = memchr(p, '\n', n);
                size_t len = nl ? (size_t)(nl - p) : n;

                if (!in->skipping && in->line.len + len > MCP_LINE_MAX) {
                        mcp_bridge_too_long(b);
                        in->skipping = true;
                        buf_fini(&in->line);
                }
                if (!in->skipping && buf_put(&in->line, p, len))
                        return err_set(e, E_NOMEM, "no memory");
                if (nl && !in->skipping)
                        rc = mcp_bridge_line(b, (const char *)in->line.data, in->line.len, e);
                if (nl) {
                        in->skipping = false;
                        buf_reset(&in->line);
                        len++;
                }
                p += len;
                n -= len;
        }
        return rc;
}

static int read_more(struct input *in, struct mcp_bridge *b, struct err *e)
{
        char piece[PIECE];
        ssize_t n = read(STDIN_FILENO, piece, sizeof piece);

        if (n < 0 && (errno == EINTR || errno == EAGAIN))
                return 0;
        if (n > 0)
                return take(in, b, piece, (size_t)n, e);
        in->eof = true;
        /* A last line may lack its newline. */
        return in->line.len ? take(in, b, "\n", 1, e) : 0;
}

/* Until no call is left, at most GRACE_MS. */
static int settle(struct client *c, struct mcp_bridge *b, struct err *e)
{
        int64_t until = clock_mono_ms(&clock_system) + GRACE_MS, left;
        int rc = 0, asked = interrupt_count();

        while (!rc && mcp_bridge_calls(b) && !mcp_bridge_broken(b) && interrupt_count() == asked &&
               (left = until - clock_mono_ms(&clock_system)) > 0)
                rc = client_turn(c, (int)left, -1, NULL, e);
        return rc;
}

int cmd_mcp(struct cli *c, struct err *e)
{
        struct mcp_bridge *b = NULL;
        struct input in = {0};
        bool readable;
        int rc = mcp_bridge_create(c->client, put_line, NULL, &b, e);

        if (rc)
                return rc;
        interrupt_catch();
        buf_init(&in.line, 0);
        while (!rc && !in.eof && !interrupt_count() && !mcp_bridge_broken(b)) {
                rc = client_turn(c->client, 1000, STDIN_FILENO, &readable, e);
                if (!rc && readable)
                        rc = read_more(&in, b, e);
        }
        if (!rc && in.eof)
                rc = settle(c->client, b, e);
        mcp_bridge_close(b);
        if (!rc)
                rc = settle(c->client, b, e);
        if (!rc && mcp_bridge_broken(b))
                rc = STATUS_SIGNAL + SIGPIPE;
        buf_fini(&in.line);
        mcp_bridge_free(b);
        return rc;
}
