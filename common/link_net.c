/* The part of links that is one per loop: the mailbox NNG's threads post to and
 * the end of the loop turn, when corked bytes leave. */
#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/link_impl.h"
#include "common/mem.h"
#include "common/str.h"

static void end_of_turn(struct link_net *net)
{
        struct list *it;

        while ((it = list_pop(&net->dirty)))
                link_turn(container_of(it, struct link, dirty));
}

static void on_prepare(uv_prepare_t *h)
{
        end_of_turn(h->data);
}

static void on_check(uv_check_t *h)
{
        end_of_turn(h->data);
}

void link_mark_dirty(struct link *l)
{
        if (list_empty(&l->dirty))
                list_push_back(&l->net->dirty, &l->dirty);
}

int link_net_create(uv_loop_t *loop, struct link_net **out, struct err *e)
{
        struct link_net *net;
        int rc = tls_engine_register(e);

        if (rc)
                return rc;
        net = mem_calloc(1, sizeof *net);
        if (!net || (rc = mailbox_create(loop, &net->mb)) != 0) {
                mem_free(net);
                return err_set(e, E_NOMEM, "no memory for the network");
        }
        net->loop = loop;
        list_init(&net->dirty);
        list_init(&net->links);
        list_init(&net->listeners);
        /* Neither start can fail, and neither keeps the loop alive. */
        uv_prepare_init(loop, &net->prepare);
        uv_check_init(loop, &net->check);
        net->prepare.data = net->check.data = net;
        uv_prepare_start(&net->prepare, on_prepare);
        uv_check_start(&net->check, on_check);
        uv_unref((uv_handle_t *)&net->prepare);
        uv_unref((uv_handle_t *)&net->check);
        net->handles = 3;
        *out = net;
        return 0;
}

static void handle_gone(struct link_net *net)
{
        void (*on_closed)(void *arg) = net->on_closed;
        void *arg = net->arg;

        if (--net->handles > 0)
                return;
        mem_free(net);
        if (on_closed)
                on_closed(arg);
}

static void on_handle_closed(uv_handle_t *h)
{
        handle_gone(h->data);
}

static void on_mailbox_closed(void *arg)
{
        handle_gone(arg);
}

void link_net_maybe_closed(struct link_net *net)
{
        if (!net->closing || !list_empty(&net->links) || !list_empty(&net->listeners))
                return;
        net->closing = false;
        mailbox_close(net->mb, on_mailbox_closed, net);
        uv_close((uv_handle_t *)&net->prepare, on_handle_closed);
        uv_close((uv_handle_t *)&net->check, on_handle_closed);
}

void link_net_close(struct link_net *net, void (*on_closed)(void *arg), void *arg)
{
        net->on_closed = on_closed;
        net->arg = arg;
        net->closing = true;
        LIST_EACH_SAFE (it, nx, &net->listeners)
                link_listener_close(container_of(it, struct link_listener, in_net));
        LIST_EACH (it, &net->links)
                link_close(container_of(it, struct link, in_net), 0, 0, "the program is ending");
        link_net_maybe_closed(net);
}

int link_split_address(const char *host_port, char host[256], char port[8], struct err *e)
{
        const char *colon = strrchr(host_port, ':'), *from = host_port, *to = colon;
        int64_t n;

        if (!colon || str_parse_i64(colon + 1, 0, 65535, &n) != 0)
                goto bad;
        if (*from == '[') {
                from++;
                if (to == from || *--to != ']')
                        goto bad;
        } else if (memchr(from, ':', (size_t)(to - from))) {
                goto bad; /* an IPv6 address without brackets */
        }
        if (to <= from || to - from >= 256)
                goto bad;
        for (const char *p = from; p < to; p++) {
                /* It becomes part of a URL. */
                if (!((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') ||
                      strchr(".-_:%", *p)))
                        goto bad;
        }
        memcpy(host, from, (size_t)(to - from));
        host[to - from] = '\0';
        snprintf(port, 8, "%d", (int)n);
        return 0;
bad:
        return err_set(e, E_INVAL, "\"%.200s\" is not an address: write host:port or [ipv6]:port", host_port);
}

int link_err_from_nng(int rv)
{
        if (rv & NNG_ESYSERR)
                return err_from_errno(rv & ~NNG_ESYSERR);
        switch (rv) {
        case 0:
                return 0;
        case NNG_ENOMEM:
                return E_NOMEM;
        case NNG_ETIMEDOUT:
                return E_TIMEOUT;
        case NNG_ECONNREFUSED:
        case NNG_EUNREACHABLE:
                return E_UNAVAIL;
        case NNG_EADDRINUSE:
                return E_EXIST;
        case NNG_EADDRINVAL:
        case NNG_EINVAL:
                return E_INVAL;
        case NNG_EPERM:
                return E_DENIED;
        case NNG_EPEERAUTH:
                return E_UNAUTH;
        case NNG_ECRYPTO:
                return E_PROTO;
        case NNG_ECLOSED:
        case NNG_ECONNSHUT:
        case NNG_ECONNRESET:
        case NNG_ECONNABORTED:
        case NNG_ECANCELED:
                return E_CLOSED;
        default:
                return E_IO;
        }
}
