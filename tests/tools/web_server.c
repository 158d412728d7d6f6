#include "tests/tools/web_server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/test.h"

struct web_server srv;

struct conn {
        uv_tcp_t tcp;
        char text[70000];
        size_t n;
};

static void on_conn_closed(uv_handle_t *h)
{
        free(h->data);
}

static void on_sent(uv_write_t *w, int status)
{
        (void)status;
        free(w->data);
        free(w);
}

static void reply(struct conn *c, const char *head, const char *body)
{
        uv_write_t *w = calloc(1, sizeof *w);
        char *all = malloc(strlen(head) + strlen(body) + 200);
        int n = sprintf(all, "HTTP/1.1 %s\r\nContent-Length: %zu\r\nCache-Control: no-store\r\n\r\n%s", head,
                        strlen(body), body);
        uv_buf_t b = uv_buf_init(all, (unsigned)n);

        w->data = all;
        uv_write(w, (uv_stream_t *)&c->tcp, &b, 1, on_sent);
}

#define HTML "200 OK\r\nContent-Type: text/html; charset=utf-8"

static const struct {
        const char *path, *body;
} pages[] = {
        {"/hello", "<title>Hello \xc3\xbc</title><h1>Hello</h1><p id=p>one <b>two</b></p><p "
                   "style='display:none'>unseen</p>"},
        {"/form",
         "<title>form</title><form action=/done><input id=name name=name value=old><select id=s "
         "name=s><option value=1>one"
         "<option value=2>two</select><textarea id=t></textarea><button id=go>Send it</button></form>"
         "<a href=/hello id=link>a link</a><button id=off disabled>off</button><div id=hidden "
         "style='display:none'>x</div>"},
        {"/done", "<title>done</title>done"},
        {"/late", "<title>late</title><script>setTimeout(()=>{document.body.innerHTML='<p id=late>here I "
                  "am</p>'},150)</script>"},
        {"/covered", "<button id=b style='position:absolute;top:0;left:0'>b</button><div "
                     "style='position:fixed;inset:0;background:red'></div>"},
        {"/alert", "<title>before</title><script>alert('hi \\u001b[31m');document.title='confirmed "
                   "'+confirm('sure?')</script>"},
        {"/cookie", "<script>document.cookie='a=1';localStorage.x=(localStorage.x||0)*1+1;document.title="
                    "document.cookie+localStorage.x"
                    "</script>"},
        {"/spin", "<title>spin</title><script>for(;;);</script>"},
        {"/tall",
         "<body style='margin:0'><div style='height:3000px;background:linear-gradient(red,blue)'></div>"},
        {"/popup", "<button id=b onclick=\"window.w=window.open('/hello')\">open</button>"},
};

static void answer(struct conn *c)
{
        char path[1000] = "", head[2000], body[4000];

        sscanf(c->text, "%*s %999s", path);
        for (size_t i = 0; i < sizeof pages / sizeof *pages; i++)
                if (strncmp(path, pages[i].path, strlen(pages[i].path)) == 0) {
                        reply(c, HTML, pages[i].body);
                        return;
                }
        if (strcmp(path, "/hang") == 0)
                return;
        if (strcmp(path, "/404") == 0) {
                reply(c, "404 Not Found\r\nContent-Type: text/html", "<title>no</title>nothing here");
        } else if (strcmp(path, "/download") == 0) {
                reply(c,
                      "200 OK\r\nContent-Type: application/zip\r\nContent-Disposition: attachment; "
                      "filename=a.zip",
                      "PK");
        } else if (strcmp(path, "/empty") == 0) {
                reply(c, "204 No Content", "");
        } else if (strcmp(path, "/pending-image") == 0) {
                reply(c, HTML, "<title>half</title><p id=p>text</p><img src=/hang>");
        } else if (strncmp(path, "/to?", 4) == 0) {
                snprintf(head, sizeof head, "302 Found\r\nLocation: %s", path + 4);
                reply(c, head, "");
        } else if (strcmp(path, "/wants-denied") == 0) {
                snprintf(body, sizeof body,
                         "<title>wants</title><img src=http://denied.test:%d/img><iframe "
                         "src=http://denied.test:%d/frame></iframe>"
                         "<link rel=prefetch href=http://denied.test:%d/prefetch><link rel=dns-prefetch "
                         "href=//dns.denied.test>"
                         "<script>new "
                         "WebSocket('ws://denied.test:%d/ws');fetch('http://127.0.0.2:%d/fetch').catch(e=>0);"
                         "navigator.sendBeacon('http://denied.test:%d/beacon');new "
                         "WebSocket('ws://127.0.0.1:%d/ws')</script>",
                         srv.port, srv.port, srv.port, srv.port, srv.port, srv.port, srv.port);
                reply(c, HTML, body);
        } else if (strcmp(path, "/favicon.ico") == 0) {
                reply(c, "404 Not Found", "");
        } else {
                reply(c, HTML, "<title>other</title>");
        }
}

static void on_conn_alloc(uv_handle_t *h, size_t want, uv_buf_t *b)
{
        struct conn *c = h->data;

        (void)want;
        *b = uv_buf_init(c->text + c->n, (unsigned)(sizeof c->text - 1 - c->n));
}

static void on_conn_read(uv_stream_t *s, ssize_t n, const uv_buf_t *b)
{
        struct conn *c = s->data;
        char *host;

        (void)b;
        if (n < 0) {
                if (!uv_is_closing((uv_handle_t *)s))
                        uv_close((uv_handle_t *)s, on_conn_closed);
                return;
        }
        c->n += (size_t)n;
        c->text[c->n] = '\0';
        if (!strstr(c->text, "\r\n\r\n"))
                return;
        srv.websockets += strstr(c->text, "Upgrade: websocket") != NULL;
        host = strstr(c->text, "Host: ");
        srv.n += (size_t)snprintf(srv.asked + srv.n, sizeof srv.asked - srv.n, "%.*s %.*s\n",
                                  (int)strcspn(c->text, "\r"), c->text, host ? (int)strcspn(host, "\r") : 0,
                                  host ? host : "");
        answer(c);
        c->n = 0;
}

static void on_conn(uv_stream_t *s, int status)
{
        struct conn *c = calloc(1, sizeof *c);

        CHECK(status == 0);
        uv_tcp_init(s->loop, &c->tcp);
        c->tcp.data = c;
        CHECK(uv_accept(s, (uv_stream_t *)&c->tcp) == 0);
        uv_read_start((uv_stream_t *)&c->tcp, on_conn_alloc, on_conn_read);
}

static void close_conn(uv_handle_t *h, void *arg)
{
        (void)arg;
        if (h->type == UV_TCP && h->data && !uv_is_closing(h))
                uv_close(h, on_conn_closed);
}

void web_open(uv_loop_t *loop)
{
        struct sockaddr_in a;
        int n = sizeof a;

        memset(&srv, 0, sizeof srv);
        uv_tcp_init(loop, &srv.listener);
        uv_ip4_addr("0.0.0.0", 0, &a);
        CHECK(uv_tcp_bind(&srv.listener, (const struct sockaddr *)&a, 0) == 0);
        CHECK(uv_listen((uv_stream_t *)&srv.listener, 16, on_conn) == 0);
        uv_tcp_getsockname(&srv.listener, (struct sockaddr *)&a, &n);
        srv.port = ntohs(a.sin_port);
        uv_unref((uv_handle_t *)&srv.listener);
}

void web_close(uv_loop_t *loop)
{
        uv_close((uv_handle_t *)&srv.listener, NULL);
        uv_walk(loop, close_conn, NULL);
}
