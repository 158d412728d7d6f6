#include "tests/tools/stub.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/test.h"

#define REQUEST_MAX ((size_t)64 << 20)

struct conn {
        struct stub *s;
        uv_tcp_t tcp;
        uv_timer_t timer;
        char *text;
        size_t n, cap;
        const struct stub_reply *reply;
        size_t piece, repeated;
        int handles;
        bool closing;
};

struct out {
        uv_write_t w;
        struct conn *c;
        bool last;
        char data[];
};

static void on_handle_closed(uv_handle_t *h)
{
        struct conn *c = h->data;

        if (--c->handles)
                return;
        free(c->text);
        free(c);
}

static void conn_close(struct conn *c)
{
        if (c->closing)
                return;
        c->closing = true;
        uv_close((uv_handle_t *)&c->tcp, on_handle_closed);
        uv_close((uv_handle_t *)&c->timer, on_handle_closed);
}

static void next(struct conn *c);

static void on_written(uv_write_t *w, int status)
{
        struct out *o = w->data;
        struct conn *c = o->c;
        bool last = o->last;

        free(o);
        if (c->closing)
                return;
        if (status || last)
                conn_close(c);
        else if (c->reply->repeat && !c->reply->pieces[c->piece])
                next(c);
}

static void put(struct conn *c, const char *p, size_t n, bool last)
{
        struct out *o = malloc(sizeof *o + n);
        uv_buf_t b;

        CHECK(o);
        memcpy(o->data, p, n);
        o->c = c;
        o->last = last;
        o->w.data = o;
        b = uv_buf_init(o->data, (unsigned)n);
        if (uv_write(&o->w, (uv_stream_t *)&c->tcp, &b, 1, on_written) != 0) {
                free(o);
                conn_close(c);
        }
}

static void put_body(struct conn *c, const char *p)
{
        size_t n = strlen(p);
        char *framed;

        if (!c->reply->chunked) {
                put(c, p, n, false);
                return;
        }
        framed = malloc(n + 40);
        CHECK(framed);
        n = (size_t)sprintf(framed, "%zx\r\n%s\r\n", n, p);
        put(c, framed, n, false);
        free(framed);
}

static void on_gap(uv_timer_t *t)
{
        next(t->data);
}

static void next(struct conn *c)
{
        const struct stub_reply *r = c->reply;
        const char *p = r->pieces ? r->pieces[c->piece] : NULL;

        if (p) {
                if (c->piece == 0)
                        c->s->first_piece_ns = uv_hrtime();
                c->piece++;
                put_body(c, p);
                if (r->gap_ms)
                        uv_timer_start(&c->timer, on_gap, (uint64_t)r->gap_ms, 0);
                else if (r->pieces[c->piece] || !r->repeat)
                        next(c);
                return;
        }
        if (r->repeat && c->repeated < r->repeat_bytes) {
                c->repeated += strlen(r->repeat);
                put_body(c, r->repeat);
                return;
        }
        if (r->hang)
                return;
        if (r->chunked && !r->cut)
                put(c, "0\r\n\r\n", 5, true);
        else
                put(c, "", 0, true);
}

static void answer(struct conn *c)
{
        struct stub *s = c->s;
        size_t i = s->n_requests;
        char head[1000];
        int n;

        CHECK(i < STUB_REQUESTS_MAX);
        s->requests[i] = malloc(c->n + 1);
        CHECK(s->requests[i]);
        memcpy(s->requests[i], c->text, c->n);
        s->requests[i][c->n] = '\0';
        s->at_ms[i] = uv_hrtime() / 1000000;
        s->n_requests++;
        c->reply = &s->script[i < s->n_script ? i : s->n_script - 1];
        if (!c->reply->status) {
                conn_close(c);
                return;
        }
        n = snprintf(head, sizeof head, "HTTP/1.1 %d Whatever\r\n%s%sConnection: close\r\n\r\n",
                     c->reply->status, c->reply->headers ? c->reply->headers : "",
                     c->reply->chunked ? "Transfer-Encoding: chunked\r\n" : "");
        put(c, head, (size_t)n, false);
        next(c);
}

static void on_alloc(uv_handle_t *h, size_t want, uv_buf_t *b)
{
        struct conn *c = h->data;

        if (c->cap - c->n < want + 1) {
                c->cap = 2 * c->cap + want + 1;
                CHECK(c->cap < REQUEST_MAX);
                c->text = realloc(c->text, c->cap);
                CHECK(c->text);
        }
        *b = uv_buf_init(c->text + c->n, (unsigned)want);
}

static void on_read(uv_stream_t *t, ssize_t n, const uv_buf_t *b)
{
        struct conn *c = t->data;
        const char *end, *len;

        (void)b;
        if (n < 0) {
                conn_close(c);
                return;
        }
        c->n += (size_t)n;
        c->text[c->n] = '\0';
        if (c->reply)
                return;
        end = strstr(c->text, "\r\n\r\n");
        len = strcasestr(c->text, "\r\ncontent-length:");
        if (end && (!len || len > end || c->n >= (size_t)(end + 4 - c->text) + (size_t)atol(len + 17)))
                answer(c);
}

static void on_connection(uv_stream_t *l, int status)
{
        struct conn *c = calloc(1, sizeof *c);

        CHECK(status == 0 && c);
        c->s = l->data;
        c->s->n_connections++;
        uv_tcp_init(l->loop, &c->tcp);
        uv_timer_init(l->loop, &c->timer);
        c->handles = 2;
        c->tcp.data = c->timer.data = c;
        CHECK(uv_accept(l, (uv_stream_t *)&c->tcp) == 0);
        uv_tcp_nodelay(&c->tcp, 1);
        uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read);
}

void stub_open(struct stub *s, uv_loop_t *loop, const struct stub_reply *script, size_t n)
{
        struct sockaddr_in a;
        int len = sizeof a;

        signal(SIGPIPE, SIG_IGN); /* clients go in the middle of an answer */
        memset(s, 0, sizeof *s);
        s->loop = loop;
        s->script = script;
        s->n_script = n;
        uv_ip4_addr("127.0.0.1", 0, &a);
        CHECK(uv_tcp_init(loop, &s->listener) == 0);
        s->listener.data = s;
        CHECK(uv_tcp_bind(&s->listener, (struct sockaddr *)&a, 0) == 0);
        CHECK(uv_listen((uv_stream_t *)&s->listener, 8, on_connection) == 0);
        CHECK(uv_tcp_getsockname(&s->listener, (struct sockaddr *)&a, &len) == 0);
        s->port = ntohs(a.sin_port);
        unsetenv("http_proxy");
        unsetenv("HTTP_PROXY");
        unsetenv("ALL_PROXY");
        unsetenv("all_proxy");
        unsetenv("https_proxy");
}

void stub_close(struct stub *s)
{
        uv_close((uv_handle_t *)&s->listener, NULL);
        for (size_t i = 0; i < s->n_requests; i++)
                free(s->requests[i]);
        s->n_requests = 0;
}

const char *stub_body(const struct stub *s, size_t i)
{
        const char *end = i < s->n_requests ? strstr(s->requests[i], "\r\n\r\n") : NULL;

        return end ? end + 4 : "";
}
