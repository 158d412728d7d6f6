/* What the hub sends and fetches: an answer comes once, on the loop; what is odd is an error with a reason.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/err.h"
#include "common/mailbox.h"
#include "hub/net/net.h"
#include "tests/lib/test.h"

/* A peer that answers each connection with one text, and keeps the last request. */
struct peer {
        int fd, port, n;
        const char *say; /* NULL: nothing, the connection stays open */
        char heard[4096];
        pthread_t thread;
        int held[8], n_held;
};

static void *serve(void *arg)
{
        struct peer *p = arg;

        for (;;) {
                int c = accept(p->fd, NULL, NULL);
                size_t used = 0;

                if (c < 0)
                        return NULL;
                while (used < sizeof p->heard - 1) {
                        ssize_t n = read(c, p->heard + used, sizeof p->heard - 1 - used);

                        if (n <= 0)
                                break;
                        used += (size_t)n;
                        p->heard[used] = 0;
                        if (strstr(p->heard, "\r\n\r\n") &&
                            (!strstr(p->heard, "Content-Length: 4") || strstr(p->heard, "ping")))
                                break;
                }
                p->n++;
                if (p->say) {
                        CHECK(write(c, p->say, strlen(p->say)) > 0);
                        close(c);
                } else if (p->n_held < 8) {
                        p->held[p->n_held++] = c;
                }
        }
}

static void peer_open(struct peer *p, const char *say)
{
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t n = sizeof a;

        memset(p, 0, sizeof *p);
        p->say = say;
        p->fd = socket(AF_INET, SOCK_STREAM, 0);
        CHECK(bind(p->fd, (struct sockaddr *)&a, sizeof a) == 0 && listen(p->fd, 8) == 0);
        CHECK(getsockname(p->fd, (struct sockaddr *)&a, &n) == 0);
        p->port = ntohs(a.sin_port);
        CHECK(pthread_create(&p->thread, NULL, serve, p) == 0);
}

static void peer_close(struct peer *p)
{
        shutdown(p->fd, SHUT_RDWR);
        close(p->fd);
        pthread_join(p->thread, NULL);
        for (int i = 0; i < p->n_held; i++)
                close(p->held[i]);
}

struct got {
        int calls, rc;
        long status;
        int64_t retry_after_ms;
        char body[100], why[200];
        uv_loop_t *loop;
};

static void on_done(void *arg, const struct net_answer *a)
{
        struct got *g = arg;

        g->calls++;
        g->rc = a->rc;
        g->status = a->status;
        g->retry_after_ms = a->retry_after_ms;
        snprintf(g->body, sizeof g->body, "%s", a->body);
        snprintf(g->why, sizeof g->why, "%s", a->why ? a->why : "");
        uv_stop(g->loop);
}

static struct got fetch(const char *say, struct net_request r, char *heard, int port_or_0)
{
        uv_loop_t loop;
        struct mailbox *mb;
        struct net *net;
        struct got g = {.loop = &loop};
        struct peer p;
        char url[64];
        struct err e = {0};

        peer_open(&p, say);
        snprintf(url, sizeof url, "http://127.0.0.1:%d/x", port_or_0 ? port_or_0 : p.port);
        r.url = r.url ? r.url : url;
        CHECK(uv_loop_init(&loop) == 0);
        CHECK_INT(mailbox_create(&loop, &mb), 0);
        CHECK_INT(net_create(mb, &net, &e), 0);
        CHECK_INT(net_send(net, &r, on_done, &g, &e), 0);
        CHECK_INT(g.calls, 0); /* never at once */
        uv_run(&loop, UV_RUN_DEFAULT);
        net_close(net);
        mailbox_close(mb, NULL, NULL);
        uv_run(&loop, UV_RUN_DEFAULT);
        CHECK(uv_loop_close(&loop) == 0);
        peer_close(&p);
        if (heard)
                snprintf(heard, sizeof p.heard, "%s", p.heard);
        CHECK_INT(g.calls, 1);
        return g;
}

TEST(net, a_post_carries_its_headers_and_the_answer_comes_back)
{
        static const char *const headers[] = {"X-One: 1", "Content-Type: application/json", NULL};
        char heard[4096];
        struct got g =
                fetch("HTTP/1.1 429 Slow\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\nno",
                      (struct net_request){.headers = headers, .body = "ping", .body_len = 4}, heard, 0);

        CHECK_INT(g.rc, 0);
        CHECK_INT(g.status, 429);
        CHECK_INT(g.retry_after_ms, 7000);
        CHECK_STR(g.body, "no");
        CHECK(strncmp(heard, "POST /x HTTP/1.1\r\n", 18) == 0);
        CHECK(strstr(heard, "X-One: 1\r\n") && strstr(heard, "\r\n\r\nping"));
}

TEST(net, a_redirect_is_an_answer_and_not_an_order)
{
        struct got g =
                fetch("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
                      (struct net_request){0}, NULL, 0);

        CHECK_INT(g.rc, 0);
        CHECK_INT(g.status, 302);
}

TEST(net, what_is_too_large_hangs_or_refuses_is_told)
{
        struct got g = fetch("HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n0123456789a",
                             (struct net_request){.answer_max = 10}, NULL, 0);

        CHECK_INT(g.rc, -E_TOOBIG);
        CHECK_STR(g.body, "");
        g = fetch("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789",
                  (struct net_request){.answer_max = 10}, NULL, 0);
        CHECK_INT(g.rc, 0);
        CHECK_STR(g.body, "0123456789");
        g = fetch(NULL, (struct net_request){.timeout_ms = 200}, NULL, 0);
        CHECK_INT(g.rc, -E_TIMEOUT);
        CHECK(g.why[0] != 0);
        g = fetch("HTTP/1.1 200 OK\r\n\r\n", (struct net_request){0}, NULL, 1);
        CHECK_INT(g.rc, -E_UNAVAIL);
}

TEST(net, other_schemes_and_too_many_requests_are_refused_and_closing_breaks_off)
{
        uv_loop_t loop;
        struct mailbox *mb;
        struct net *net;
        struct got g = {.loop = &loop};
        struct peer p;
        char url[64];
        struct err e = {0};
        unsigned taken = 0;

        peer_open(&p, NULL);
        snprintf(url, sizeof url, "http://127.0.0.1:%d/", p.port);
        CHECK(uv_loop_init(&loop) == 0);
        CHECK_INT(mailbox_create(&loop, &mb), 0);
        CHECK_INT(net_create(mb, &net, &e), 0);
        CHECK_INT(net_send(net, &(struct net_request){.url = "file:///etc/passwd"}, on_done, &g, &e),
                  -E_INVAL);
        CHECK_INT(net_send(net, &(struct net_request){.url = "ftp://x/"}, on_done, &g, &e), -E_INVAL);
        while (net_send(net, &(struct net_request){.url = url}, on_done, &g, &e) == 0)
                taken++;
        CHECK_INT(taken, NET_PENDING_MAX);
        CHECK_INT(e.code, E_FULL);
        net_close(net);
        CHECK_INT(g.calls, 0);
        mailbox_close(mb, NULL, NULL);
        uv_run(&loop, UV_RUN_DEFAULT);
        CHECK(uv_loop_close(&loop) == 0);
        peer_close(&p);
}
