/* browser.* with a real Chromium against a small server on the same loop. Without a browser on the
 * machine every test of this file says so and passes. */
#include "agent/tools/browser.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/tools/browser_pool.h"
#include "common/err.h"
#include "common/mem.h"
#include "common/str.h"
#include "tests/lib/test.h"
#include "tests/tools/fake.h"

/* --- the server: pages by path; what was asked for ------------------------------ */

static struct {
        uv_tcp_t listener;
        int port;
        char asked[1 << 16]; /* request lines and Hosts, one a line */
        size_t n;
        int websockets;
} srv;

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
        {"/crash", "<title>x</title><script>const a=[];for(;;)a.push(new ArrayBuffer(1e8).slice())</script>"},
        {"/spin", "<title>spin</title><script>for(;;);</script>"},
        {"/tall",
         "<body style='margin:0'><div style='height:3000px;background:linear-gradient(red,blue)'></div>"},
        {"/popup", "<button id=b onclick=\"window.open('/hello')\">open</button>"},
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

/* --- a world ------------------------------------------------------------------------ */

static bool missing(void)
{
        if (browser_available())
                return false;
        fprintf(stderr, "SKIPPED: there is no chromium-headless-shell on this machine\n");
        return true;
}

static void open_world(struct fake *f, const char *policy)
{
        struct sockaddr_in a;
        int n = sizeof a;

        fake_init(f, policy);
        memset(&srv, 0, sizeof srv);
        uv_tcp_init(&f->loop, &srv.listener);
        uv_ip4_addr("0.0.0.0", 0, &a);
        CHECK(uv_tcp_bind(&srv.listener, (const struct sockaddr *)&a, 0) == 0);
        CHECK(uv_listen((uv_stream_t *)&srv.listener, 16, on_conn) == 0);
        uv_tcp_getsockname(&srv.listener, (struct sockaddr *)&a, &n);
        srv.port = ntohs(a.sin_port);
        uv_unref((uv_handle_t *)&srv.listener);
}

static void close_world(struct fake *f)
{
        tools_stop();
        uv_close((uv_handle_t *)&srv.listener, NULL);
        uv_walk(&f->loop, close_conn, NULL);
        fake_fini(f);
}

/* '@' in the input is the server's address. */
static void call(struct fake *f, const char *tool, const char *input)
{
        struct buf b = {0};
        char at[40];

        snprintf(at, sizeof at, "http://127.0.0.1:%d", srv.port);
        for (const char *s = input; *s; s++)
                CHECK((*s == '@' ? buf_puts(&b, at) : buf_putc(&b, *s)) == 0);
        CHECK(buf_putc(&b, 0) == 0);
        buf_reset(&f->events);
        fake_call(f, tool, (char *)b.data);
        buf_fini(&b);
}

static void good(struct fake *f, const char *tool, const char *input)
{
        call(f, tool, input);
        if (f->outcome != TOOL_SUCCEEDED)
                test_fail(__FILE__, __LINE__, "%s %s: %s: %s", tool, input, f->code, f->msg);
}

static void fails(struct fake *f, const char *tool, const char *input, const char *code)
{
        call(f, tool, input);
        if (f->outcome == TOOL_SUCCEEDED || strcmp(f->code, code) != 0)
                test_fail(__FILE__, __LINE__, "%s %s: \"%s\" (%s), expected %s", tool, input, f->code, f->msg,
                          code);
}

static const cJSON *result(const struct fake *f, int i)
{
        return cJSON_GetArrayItem(cJSON_GetObjectItem(f->outputs, "results"), i);
}

static const char *rtext(const struct fake *f, int i, const char *key)
{
        const char *s = cJSON_GetStringValue(cJSON_GetObjectItem(result(f, i), key));

        return s ? s : "";
}

/* --- reading ------------------------------------------------------------------------ */

TEST(browser, a_page_has_url_title_status_and_text)
{
        struct fake f;
        char want[100];

        if (missing())
                return;
        open_world(&f, NULL);
        good(&f, "browser.text", "{\"url\":\"@/hello\"}");
        snprintf(want, sizeof want, "http://127.0.0.1:%d/hello", srv.port);
        CHECK_STR(fake_text(&f, "url"), want);
        CHECK_STR(fake_text(&f, "title"), "Hello \xc3\xbc");
        CHECK_INT(fake_number(&f, "status"), 200);
        CHECK_STR(fake_text(&f, "text"), "Hello\n\none two");
        CHECK(memmem(f.out.data, f.out.len, "one two\n", 8) != NULL); /* and on stdout */
        CHECK(memmem(f.events.data, f.events.len, "\"title\":\"navigate http", 22) != NULL);
        good(&f, "browser.text", "{\"url\":\"@/hello\",\"selector\":\"#p\",\"max_chars\":3}");
        CHECK_STR(fake_text(&f, "text"), "one");
        CHECK(fake_number(&f, "truncated") == 1);
        good(&f, "browser.navigate", "{\"url\":\"@/404\"}");
        CHECK_INT(fake_number(&f, "status"), 404);
        fails(&f, "browser.text", "{\"url\":\"@/hello\",\"selector\":\"#none\",\"timeout\":\"300ms\"}",
              "element_not_found");
        fails(&f, "browser.text", "{\"url\":\"@/hello\",\"selector\":\"###\",\"timeout\":\"2s\"}",
              "script_failed");
        close_world(&f);
}

TEST(browser, a_screenshot_is_a_picture_inline_or_in_a_file)
{
        struct fake f;
        uint8_t *png = NULL;
        size_t n;

        if (missing())
                return;
        open_world(&f, NULL);
        good(&f, "browser.screenshot", "{\"url\":\"@/hello\"}");
        CHECK_INT(str_unb64(fake_text(&f, "base64"), strlen(fake_text(&f, "base64")), &png, &n), 0);
        CHECK(n == (size_t)fake_number(&f, "size") && memcmp(png, "\x89PNG\r\n", 6) == 0);
        CHECK_INT(png[16] << 24 | png[17] << 16 | png[18] << 8 | png[19], 1280);
        CHECK_INT(png[20] << 24 | png[21] << 16 | png[22] << 8 | png[23], 720);
        mem_free(png);
        good(&f, "browser.screenshot",
             "{\"url\":\"@/tall\",\"path\":\"~/shots/"
             "a.png\",\"full_page\":true,\"viewport\":{\"width\":400,\"height\":300}}");
        CHECK(strstr(fake_text(&f, "path"), "/home/shots/a.png") != NULL);
        CHECK(!*fake_text(&f, "base64"));
        png = (uint8_t *)(uintptr_t)fake_get(&f, "shots/a.png");
        CHECK(png && memcmp(png, "\x89PNG\r\n", 6) == 0);
        CHECK_INT(png[18] << 8 | png[19], 400);
        CHECK_INT(png[22] << 8 | png[23], 3000);
        good(&f, "browser.screenshot",
             "{\"url\":\"@/hello\",\"selector\":\"#p\",\"format\":\"jpeg\",\"quality\":50}");
        CHECK(strncmp(fake_text(&f, "base64"), "/9j/", 4) == 0);
        fails(&f, "browser.screenshot", "{\"url\":\"@/hello\",\"path\":\"/etc/x.png\"}", "policy_denied");
        good(&f, "browser.pdf", "{\"url\":\"@/hello\",\"path\":\"~/a.pdf\",\"paper\":\"A5\"}");
        CHECK(strncmp(fake_get(&f, "a.pdf"), "%PDF-", 5) == 0);
        close_world(&f);
}

/* --- doing ---------------------------------------------------------------------------- */

TEST(browser, a_list_of_actions_fills_a_form_and_follows_it)
{
        struct fake f;

        if (missing())
                return;
        open_world(&f, NULL);
        good(&f, "browser.run",
             "{\"actions\":[{\"action\":\"navigate\",\"url\":\"@/form\"},"
             "{\"action\":\"type\",\"selector\":\"#name\",\"text\":\"J\xc3\xbcrgen\",\"clear\":true},"
             "{\"action\":\"select\",\"selector\":\"#s\",\"value\":\"two\"},"
             "{\"action\":\"click\",\"text\":\"Send it\"},"
             "{\"action\":\"text\"},{\"action\":\"html\",\"selector\":\"title\"}]}");
        CHECK_STR(rtext(&f, 4, "text"), "done");
        CHECK_STR(rtext(&f, 5, "html"), "<title>done</title>");
        CHECK(strstr(fake_text(&f, "url"), "/done?name=J%C3%BCrgen&s=2") != NULL);
        CHECK_INT(cJSON_GetArraySize(cJSON_GetObjectItem(f.outputs, "results")), 6);
        good(&f, "browser.run",
             "{\"actions\":[{\"action\":\"navigate\",\"url\":\"@/form\"},"
             "{\"action\":\"type\",\"selector\":\"#name\",\"text\":\"er\"},"
             "{\"action\":\"press\",\"key\":\"Control+a\"},{\"action\":\"press\",\"key\":\"x\"},"
             "{\"action\":\"press\",\"key\":\"Enter\"}]}");
        CHECK(strstr(fake_text(&f, "url"), "/done?name=x&s=1") != NULL);
        close_world(&f);
}
