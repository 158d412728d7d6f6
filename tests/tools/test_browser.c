/* browser.* with a real Chromium against a small server on the same loop. Without a browser on the
 * machine every test of this file says so and passes. */
#include "agent/tools/browser.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/tools/browser_pool.h"
#include "common/err.h"
#include "common/mem.h"
#include "common/str.h"
#include "tests/lib/test.h"
#include "tests/tools/fake.h"
#include "tests/tools/web_server.h"

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
        fake_init(f, policy);
        web_open(&f->loop);
}

static void close_world(struct fake *f)
{
        tools_stop();
        web_close(&f->loop);
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
        fails(&f, "browser.run",
              "{\"actions\":[{\"action\":\"navigate\",\"url\":\"@/"
              "hello\"},{\"action\":\"text\",\"selector\":\"#none\",\"timeout\":\"300ms\"}]}",
              "element_not_found");
        fails(&f, "browser.run",
              "{\"actions\":[{\"action\":\"navigate\",\"url\":\"@/"
              "hello\"},{\"action\":\"text\",\"selector\":\"###\",\"timeout\":\"2s\"}]}",
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

TEST(browser, what_an_element_needs_is_waited_for_and_said)
{
        struct fake f;

        if (missing())
                return;
        open_world(&f, NULL);
        good(&f, "browser.run",
             "{\"actions\":[{\"action\":\"navigate\",\"url\":\"@/late\",\"until\":\"commit\"},"
             "{\"action\":\"wait\",\"selector\":\"#late\"},{\"action\":\"wait\",\"text\":\"here I "
             "am\"},{\"action\":\"text\"},"
             "{\"action\":\"wait\",\"selector\":\"#never\",\"state\":\"absent\"}]}");
        CHECK_STR(rtext(&f, 3, "text"), "here I am");
        fails(&f, "browser.run",
              "{\"actions\":[{\"action\":\"navigate\",\"url\":\"@/"
              "form\"},{\"action\":\"click\",\"selector\":\"#none\",\"timeout\":\"400ms\"}]}",
              "element_not_found");
        CHECK(strstr(f.msg, "\"#none\"") != NULL);
        fails(&f, "browser.run",
              "{\"actions\":[{\"action\":\"navigate\",\"url\":\"@/"
              "form\"},{\"action\":\"click\",\"selector\":\"#hidden\",\"timeout\":\"400ms\"}]}",
              "element_not_usable");
        CHECK(strstr(f.msg, "not visible") != NULL);
        fails(&f, "browser.run",
              "{\"actions\":[{\"action\":\"navigate\",\"url\":\"@/"
              "form\"},{\"action\":\"click\",\"selector\":\"#off\",\"timeout\":\"400ms\"}]}",
              "element_not_usable");
        CHECK(strstr(f.msg, "disabled") != NULL);
        fails(&f, "browser.run",
              "{\"actions\":[{\"action\":\"navigate\",\"url\":\"@/"
              "covered\"},{\"action\":\"click\",\"selector\":\"#b\",\"timeout\":\"400ms\"}]}",
              "element_not_usable");
        CHECK(strstr(f.msg, "covered") != NULL);
        fails(&f, "browser.run",
              "{\"actions\":[{\"action\":\"navigate\",\"url\":\"@/"
              "form\"},{\"action\":\"type\",\"selector\":\"#go\",\"text\":\"x\",\"timeout\":\"400ms\"}]}",
              "element_not_usable");
        fails(&f, "browser.run",
              "{\"actions\":[{\"action\":\"navigate\",\"url\":\"@/"
              "form\"},{\"action\":\"wait\",\"selector\":\"#go\",\"state\":\"absent\",\"timeout\":\"400ms\"}]"
              "}",
              "element_not_usable");
        fails(&f, "browser.run",
              "{\"actions\":[{\"action\":\"navigate\",\"url\":\"@/"
              "form\"},{\"action\":\"select\",\"selector\":\"#s\",\"value\":\"9\","
              "\"timeout\":\"400ms\"}]}",
              "element_not_usable");
        CHECK(strstr(f.msg, "actions[1] (select)") != NULL);
        CHECK_INT(cJSON_GetArraySize(cJSON_GetObjectItem(f.outputs, "results")), 1); /* what was done stays */
        close_world(&f);
}

TEST(browser, a_navigation_that_fails_says_why)
{
        struct fake f;

        if (missing())
                return;
        open_world(&f, NULL);
        fails(&f, "browser.navigate", "{\"url\":\"http://127.0.0.1:65431/\"}", "nav_failed");
        CHECK(strstr(f.msg, "connection refused") != NULL);
        fails(&f, "browser.navigate", "{\"url\":\"http://no-such-host.invalid/\"}", "nav_failed");
        CHECK(strstr(f.msg, "no-such-host.invalid is not known") != NULL);
        fails(&f, "browser.navigate", "{\"url\":\"@/hang\",\"timeout\":\"500ms\"}", "nav_timeout");
        fails(&f, "browser.navigate", "{\"url\":\"@/pending-image\",\"timeout\":\"500ms\"}", "nav_timeout");
        good(&f, "browser.run",
             "{\"actions\":[{\"action\":\"navigate\",\"url\":\"@/"
             "pending-image\",\"until\":\"dom\"},{\"action\":\"text\"}]}");
        CHECK_STR(rtext(&f, 1, "text"), "text");
        fails(&f, "browser.navigate", "{\"url\":\"@/empty\"}", "nav_failed");
        fails(&f, "browser.navigate", "{\"url\":\"@/download\"}", "download_denied");
        fails(&f, "browser.navigate", "{\"url\":\"http://user:pw@127.0.0.1/\"}", "bad_url");
        /* A click that leads nowhere. */
        fails(&f, "browser.navigate", "{\"url\":\"@/to?http://127.0.0.1:65431/\"}", "nav_failed");
        good(&f, "browser.navigate", "{\"url\":\"@/to?/hello\"}");
        CHECK(strstr(fake_text(&f, "url"), "/hello") != NULL);
        close_world(&f);
}

TEST(browser, dialogs_are_answered_and_windows_are_not_opened)
{
        struct fake f;

        if (missing())
                return;
        open_world(&f, NULL);
        good(&f, "browser.navigate", "{\"url\":\"@/alert\"}");
        CHECK_STR(fake_text(&f, "title"), "confirmed false");
        CHECK(memmem(f.events.data, f.events.len, "sure?", 5) != NULL);
        good(&f, "browser.navigate", "{\"url\":\"@/alert\",\"dialogs\":\"accept\"}");
        CHECK_STR(fake_text(&f, "title"), "confirmed true");
        good(&f, "browser.click", "{\"url\":\"@/popup\",\"selector\":\"#b\"}");
        CHECK(memmem(f.events.data, f.events.len, "window", 6) != NULL);
        close_world(&f);
        open_world(&f, "version: 1\nbrowser: {evaluate: true}\n");
        good(&f, "browser.run",
             "{\"actions\":[{\"action\":\"navigate\",\"url\":\"@/"
             "popup\"},{\"action\":\"click\",\"selector\":\"#b\"},"
             "{\"action\":\"evaluate\",\"expression\":\"new Promise(r=>{let n=0;const "
             "i=setInterval(()=>{if(!w||w.closed||++n>100)"
             "{clearInterval(i);r(!!w&&w.closed)}},50)})\"}]}");
        CHECK(cJSON_IsTrue(cJSON_GetObjectItem(result(&f, 2), "value")));
        close_world(&f);
}

/* --- apart from each other, and kept -------------------------------------------------- */

TEST(browser, a_page_that_never_stops_asking_fills_no_record)
{
        struct fake f;
        int n = 0;

        if (missing())
                return;
        open_world(&f, "version: 1\nbrowser: {evaluate: true}\n");
        good(&f, "browser.run",
             "{\"actions\":[{\"action\":\"navigate\",\"url\":\"@/hello\"},"
             "{\"action\":\"evaluate\",\"expression\":\"for(let i=0;i<200;i++)alert(i);7\"}]}");
        CHECK_INT(cJSON_GetObjectItem(result(&f, 1), "value")->valueint, 7); /* each was answered */
        CHECK(buf_putc(&f.events, 0) == 0);
        for (const char *p = (char *)f.events.data; (p = strstr(p, "alert(\\\"")); p++)
                n++;
        CHECK_INT(n, 49);
        CHECK(strstr((char *)f.events.data, "no more is said of it") != NULL);
        fails(&f, "browser.run",
              "{\"actions\":[{\"action\":\"navigate\",\"url\":\"@/"
              "hello\"},{\"action\":\"evaluate\",\"expression\":"
              "\"document.body.innerHTML='<a id=m "
              "href=mailto:a@b>write</a>';1\"},{\"action\":\"click\",\"selector\":"
              "\"#m\"}]}",
              "nav_failed");
        CHECK(strstr(f.msg, "leads out of the browser") != NULL);
        close_world(&f);
}

TEST(browser, each_call_has_a_fresh_profile_and_a_session_keeps_its_own)
{
        struct fake f;
        char session[100], input[400];

        if (missing())
                return;
        open_world(&f, NULL);
        good(&f, "browser.navigate", "{\"url\":\"@/cookie\"}");
        CHECK_STR(fake_text(&f, "title"), "a=11");
        CHECK_STR(fake_text(&f, "session"), "");
        good(&f, "browser.navigate", "{\"url\":\"@/cookie\",\"keep\":true}");
        CHECK_STR(fake_text(&f, "title"), "a=11");
        snprintf(session, sizeof session, "%s", fake_text(&f, "session"));
        CHECK(strlen(session) > 30);
        snprintf(input, sizeof input, "{\"url\":\"@/cookie\",\"session\":\"%s\"}", session);
        good(&f, "browser.navigate", input);
        CHECK_STR(fake_text(&f, "title"), "a=12");
        CHECK_STR(fake_text(&f, "session"), session);
        /* A call that fails leaves the page to the next. */
        snprintf(input, sizeof input, "{\"selector\":\"#x\",\"session\":\"%s\",\"timeout\":\"200ms\"}",
                 session);
        fails(&f, "browser.click", input, "element_not_found");
        CHECK_STR(fake_text(&f, "session"), session);
        snprintf(input, sizeof input, "{\"session\":\"%s\",\"keep\":false}", session);
        good(&f, "browser.text", input);
        fails(&f, "browser.text", input, "no_session");
        fails(&f, "browser.text", "{\"session\":\"page-guess\"}", "no_session");
        for (int i = 0; i < BROWSER_KEPT_MAX; i++)
                good(&f, "browser.navigate", "{\"url\":\"@/hello\",\"keep\":true}");
        fails(&f, "browser.navigate", "{\"url\":\"@/hello\",\"keep\":true}", "too_many_sessions");
        good(&f, "browser.navigate", "{\"url\":\"@/hello\"}");
        close_world(&f);
}

/* --- where pages may go ------------------------------------------------------------------ */

#define ONLY_US                                                                                              \
        "version: 1\nhttp:\n  allow: [\"127.0.0.1\", \"localhost\", \"*.test\"]\n  deny: [\"denied.test\", " \
        "\"127.0.0.2\"]\n"

TEST(browser, what_the_policy_denies_is_reached_by_no_road)
{
        struct fake f;
        char input[300];

        if (missing())
                return;
        open_world(&f, ONLY_US);
        snprintf(input, sizeof input, "{\"url\":\"http://denied.test:%d/\"}", srv.port);
        fails(&f, "browser.navigate", input, "url_denied");
        CHECK(strstr(f.msg, "http.deny") != NULL);
        fails(&f, "browser.navigate", "{\"url\":\"http://elsewhere.example/\"}", "url_denied");
        CHECK(strstr(f.msg, "http.allow") != NULL);
        snprintf(input, sizeof input, "{\"url\":\"@/to?http://denied.test:%d/redirected\"}", srv.port);
        fails(&f, "browser.navigate", input, "url_denied");
        snprintf(input, sizeof input, "{\"url\":\"@/to?http://127.0.0.2:%d/redirected\"}", srv.port);
        fails(&f, "browser.navigate", input, "url_denied");
        /* localhost is allowed as a name, and leads to an address that is allowed. */
        snprintf(input, sizeof input, "{\"url\":\"http://localhost:%d/hello\"}", srv.port);
        good(&f, "browser.navigate", input);
        srv.n = 0;
        good(&f, "browser.navigate", "{\"url\":\"@/wants-denied\",\"until\":\"network-idle\"}");
        srv.asked[srv.n] = '\0';
        if (strstr(srv.asked, "denied") && strstr(srv.asked, "Host: denied"))
                test_fail(__FILE__, __LINE__, "the server was asked: %s", srv.asked);
        CHECK(!strstr(srv.asked, "/fetch") && !strstr(srv.asked, "/beacon") && !strstr(srv.asked, "/img"));
        CHECK_INT(srv.websockets, 1); /* the one to the host that is allowed */
        snprintf(input, sizeof input, "denied.test:%d", srv.port);
        {
                char *denied = cJSON_PrintUnformatted(cJSON_GetObjectItem(f.outputs, "denied"));

                CHECK(denied && strstr(denied, input) && strstr(denied, "127.0.0.2"));
                cJSON_free(denied);
        }
        CHECK(memmem(f.events.data, f.events.len, "denied", 6) != NULL);
        close_world(&f);
}

/* The rule is about the address, the page asks for a name that is allowed: what a name is changed to (DNS
 * rebinding) leads nowhere. */
TEST(browser, an_allowed_name_does_not_lead_to_a_denied_address)
{
        struct fake f;
        char input[300];

        if (missing())
                return;
        open_world(&f, "version: 1\nhttp: {allow: [\"localhost\"], deny: [\"127.*\", \"[::1]\"]}\n");
        snprintf(input, sizeof input, "{\"url\":\"http://localhost:%d/hello\"}", srv.port);
        fails(&f, "browser.navigate", input, "url_denied");
        CHECK(strstr(f.msg, "http.deny") != NULL);
        CHECK_INT(srv.n, 0); /* nobody was connected to */
        close_world(&f);
}

TEST(browser, a_call_may_narrow_where_its_page_goes)
{
        struct fake f;
        char input[300];

        if (missing())
                return;
        open_world(&f, NULL);
        fails(&f, "browser.navigate", "{\"url\":\"@/hello\",\"hosts\":[\"example.org\"]}", "url_denied");
        CHECK(strstr(f.msg, "`hosts`") != NULL);
        snprintf(input, sizeof input,
                 "{\"url\":\"@/to?http://localhost:%d/hello\",\"hosts\":[\"127.0.0.1\"]}", srv.port);
        fails(&f, "browser.navigate", input, "url_denied");
        snprintf(input, sizeof input,
                 "{\"url\":\"@/to?http://localhost:%d/hello\",\"hosts\":[\"127.0.0.1:*\",\"local*\"]}",
                 srv.port);
        good(&f, "browser.navigate", input);
        close_world(&f);
}

/* What a page does between two calls is bound by the call that opened it, and a later one that does not say
 * otherwise. */
TEST(browser, a_kept_page_stays_within_its_hosts)
{
        struct fake f;
        char session[100], input[600];

        if (missing())
                return;
        open_world(&f, "version: 1\nbrowser: {evaluate: true}\n");
        snprintf(input, sizeof input,
                 "{\"keep\":true,\"hosts\":[\"127.0.0.1\"],\"actions\":[{\"action\":\"navigate\",\"url\":\"@/"
                 "hello\"},{\"action\":\"evaluate\",\"expression\":\"go=()=>fetch('http://localhost:%d/"
                 "later',{mode:'no-cors'}).then(x=>'came',x=>'denied');(l=()=>go().then(()=>setTimeout(l,20))"
                 ")();1\"}]}",
                 srv.port);
        good(&f, "browser.run", input);
        snprintf(session, sizeof session, "%s", fake_text(&f, "session"));
        good(&f, "browser.navigate", "{\"url\":\"@/hello\"}"); /* the kept one is on its own meanwhile */
        snprintf(input, sizeof input,
                 "{\"session\":\"%s\",\"actions\":[{\"action\":\"evaluate\",\"expression\":\"go()\"}]}",
                 session);
        good(&f, "browser.run", input);
        CHECK_STR(rtext(&f, 0, "value"), "denied");
        CHECK(!strstr(srv.asked, "/later"));
        snprintf(input, sizeof input,
                 "{\"session\":\"%s\",\"hosts\":[\"*\"],\"actions\":[{\"action\":\"evaluate\",\"expression\":"
                 "\"go()\"}]}",
                 session);
        good(&f, "browser.run", input);
        CHECK_STR(rtext(&f, 0, "value"), "came");
        /* A connection that is open already is no way around either. */
        snprintf(input, sizeof input,
                 "{\"session\":\"%s\",\"hosts\":[\"127.0.0.1\"],\"actions\":[{\"action\":\"evaluate\","
                 "\"expression\":\"go()\"}]}",
                 session);
        good(&f, "browser.run", input);
        CHECK_STR(rtext(&f, 0, "value"), "denied");
        close_world(&f);
}

TEST(browser, other_schemes_lead_nowhere)
{
        static const char *const urls[] = {"file:///etc/hostname",
                                           "chrome://version",
                                           "data:text/html,x",
                                           "javascript:1",
                                           "view-source:http://127.0.0.1/",
                                           "about:srcdoc",
                                           "blob:http://127.0.0.1/x",
                                           "ftp://127.0.0.1/",
                                           "devtools://devtools/x"};
        struct fake f;
        char input[300];

        if (missing())
                return;
        open_world(&f, "version: 1\nbrowser: {evaluate: true}\n");
        for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
                snprintf(input, sizeof input, "{\"url\":\"%s\"}", urls[i]);
                fails(&f, "browser.navigate", input, "url_denied");
        }
        /* Nor do a page's own scripts get there, even where the caller's may run. */
        good(&f, "browser.run",
             "{\"actions\":[{\"action\":\"navigate\",\"url\":\"@/hello\"},"
             "{\"action\":\"evaluate\",\"expression\":\"location='file:///etc/hostname';1+1\"},"
             "{\"action\":\"wait\"},{\"action\":\"evaluate\",\"expression\":\"location.href\"},"
             "{\"action\":\"evaluate\",\"expression\":\"fetch('file:///etc/"
             "hostname').then(x=>x.text(),x=>'no')\"}]}");
        CHECK_INT(cJSON_GetObjectItem(result(&f, 1), "value")->valueint, 2);
        CHECK(strstr(rtext(&f, 3, "value"), "/hello") != NULL);
        CHECK_STR(rtext(&f, 4, "value"), "no");
        fails(&f, "browser.run",
              "{\"actions\":[{\"action\":\"navigate\",\"url\":\"@/"
              "hello\"},{\"action\":\"evaluate\",\"expression\":\"x.y\"}]}",
              "script_failed");
        CHECK(strstr(f.msg, "ReferenceError") != NULL);
        close_world(&f);
}

TEST(browser, files_and_scripts_only_where_the_owner_says_so)
{
        struct fake f;
        char input[500];

        if (missing())
                return;
        open_world(&f, NULL);
        fails(&f, "browser.run", "{\"actions\":[{\"action\":\"evaluate\",\"expression\":\"1\"}]}",
              "policy_denied");
        CHECK(strstr(f.msg, "browser.evaluate") != NULL);
        close_world(&f);
        open_world(&f, "version: 1\nbrowser: {files: true}\nfiles: {read: [\"~\"], deny: [\"~/secret*\"]}\n");
        fake_put(&f, "page a.html",
                 "<title>a file</title><p id=p>text</p><iframe src=secret.html></iframe><img "
                 "src=/etc/hostname>");
        fake_put(&f, "secret.html", "<title>secret</title>hidden");
        snprintf(input, sizeof input, "{\"url\":\"file://%s/page%%20a.html\"}", f.home);
        good(&f, "browser.navigate", input);
        CHECK_STR(fake_text(&f, "title"), "a file");
        CHECK(memmem(f.events.data, f.events.len, "files.deny", 10) != NULL); /* the frame */
        snprintf(input, sizeof input, "{\"url\":\"file://%s/secret.html\"}", f.home);
        fails(&f, "browser.navigate", input, "url_denied");
        fails(&f, "browser.navigate", "{\"url\":\"file:///etc/passwd\"}", "url_denied");
        snprintf(input, sizeof input, "{\"url\":\"file://%s/../../../../../../etc/passwd\"}", f.home);
        fails(&f, "browser.navigate", input, "url_denied");
        fails(&f, "browser.navigate", "{\"url\":\"file://host/etc/passwd\"}", "url_denied");
        close_world(&f);
}

/* --- when it breaks --------------------------------------------------------------------------- */

/* Is this process the leader of a session that we started? */
static bool is_child(int pid)
{
        char path[64], text[500] = "", *end;
        int parent = 0;
        FILE *o;

        snprintf(path, sizeof path, "/proc/%d/stat", pid);
        o = fopen(path, "re");
        if (o && !fgets(text, sizeof text, o))
                text[0] = '\0';
        if (o)
                fclose(o);
        end = strrchr(text, ')');
        return end && sscanf(end + 1, " %*c %d", &parent) == 1 && parent == getpid();
}

/* The processes that draw pages, of every browser of ours: how many; sig 0 only counts. */
static int signal_renderers(int sig)
{
        DIR *d = opendir("/proc");
        struct dirent *x;
        int n = 0;

        while ((x = readdir(d))) {
                int pid = atoi(x->d_name);
                char path[64], text[4096];
                size_t len;
                FILE *o;

                if (pid <= 1 || getsid(pid) <= 1 || !is_child(getsid(pid)))
                        continue;
                snprintf(path, sizeof path, "/proc/%d/cmdline", pid);
                o = fopen(path, "re");
                len = o ? fread(text, 1, sizeof text, o) : 0;
                if (o)
                        fclose(o);
                if (!memmem(text, len, "--type=renderer", 15))
                        continue;
                n++;
                if (sig)
                        kill(pid, sig);
        }
        closedir(d);
        return n;
}

TEST(browser, pages_that_were_given_back_are_gone)
{
        struct fake f;

        if (missing())
                return;
        open_world(&f, NULL);
        for (int i = 0; i < 20; i++)
                good(&f, "browser.navigate", "{\"url\":\"@/hello\"}");
        /* Those that wait, one that closes, and what Chromium keeps ready for itself; not one for each call.
         */
        for (int i = 0; i < 100 && signal_renderers(0) > BROWSER_SPARES + 6; i++)
                fake_run_for(&f, 50);
        CHECK(signal_renderers(0) <= BROWSER_SPARES + 6);
        close_world(&f);
}

/* Our youngest child: one that was killed may be there still, until it is reaped. */
static int browser_pid(void)
{
        char path[64], text[200] = "", *last;
        FILE *o;

        snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
        o = fopen(path, "re");
        CHECK(o);
        CHECK(fgets(text, sizeof text, o));
        fclose(o);
        text[strcspn(text, "\n")] = '\0';
        while (*text && text[strlen(text) - 1] == ' ')
                text[strlen(text) - 1] = '\0';
        last = strrchr(text, ' ');
        return atoi(last ? last + 1 : text);
}

static void kill_when_asked(uv_timer_t *t)
{
        if (!srv.n)
                return;
        kill(*(int *)t->data, SIGKILL);
        uv_timer_stop(t);
}

TEST(browser, a_browser_that_is_killed_fails_its_call_and_the_next_one_works)
{
        struct fake f;
        uv_timer_t look;
        int pid;

        if (missing())
                return;
        open_world(&f, NULL);
        good(&f, "browser.navigate", "{\"url\":\"@/hello\",\"keep\":true}");
        pid = browser_pid();
        CHECK(pid > 1);
        srv.n = 0;
        uv_timer_init(&f.loop, &look);
        look.data = &pid;
        uv_timer_start(&look, kill_when_asked, 1, 1);
        fails(&f, "browser.navigate", "{\"url\":\"@/hang\"}", "browser_died");
        uv_close((uv_handle_t *)&look, NULL);
        good(&f, "browser.text", "{\"url\":\"@/hello\"}");
        CHECK(browser_pid() != pid);
        fails(&f, "browser.text", "{\"session\":\"page-of-the-dead\"}", "no_session");
        close_world(&f);
}

static void crash_when_asked(uv_timer_t *t)
{
        srv.asked[srv.n] = '\0';
        if (!strstr(srv.asked, "/hang")) /* the image of the page that is shown */
                return;
        signal_renderers(SIGKILL);
        uv_timer_stop(t);
}

TEST(browser, a_page_that_spins_or_crashes_holds_up_nobody)
{
        struct fake f;
        uv_timer_t look;

        if (missing())
                return;
        open_world(&f, NULL);
        fails(&f, "browser.navigate", "{\"url\":\"@/spin\",\"timeout\":\"700ms\"}", "nav_timeout");
        fails(&f, "browser.run",
              "{\"actions\":[{\"action\":\"navigate\",\"url\":\"@/"
              "spin\",\"until\":\"commit\"},{\"action\":\"text\",\"timeout\":\"500ms\"}]}",
              "page_timeout");
        good(&f, "browser.text", "{\"url\":\"@/hello\"}");
        srv.n = 0;
        uv_timer_init(&f.loop, &look);
        uv_timer_start(&look, crash_when_asked, 1, 1);
        fails(&f, "browser.run",
              "{\"actions\":[{\"action\":\"navigate\",\"url\":\"@/"
              "pending-image\",\"until\":\"dom\"},{\"action\":\"wait\"}]}",
              "page_crashed");
        uv_close((uv_handle_t *)&look, NULL);
        /* The spare pages were killed with it, and the browser may not have told of them yet: each costs a
         * call at most. */
        for (int i = 0; i <= BROWSER_SPARES; i++) {
                call(&f, "browser.text", "{\"url\":\"@/hello\"}");
                if (f.outcome == TOOL_SUCCEEDED)
                        break;
        }
        CHECK_INT(f.outcome, TOOL_SUCCEEDED);
        close_world(&f);
}

TEST(browser, a_browser_that_hangs_is_replaced)
{
        struct fake f;
        int pid;

        if (missing())
                return;
        open_world(&f, NULL);
        good(&f, "browser.text", "{\"url\":\"@/hello\"}");
        pid = browser_pid();
        kill(pid, SIGSTOP);
        fails(&f, "browser.navigate", "{\"url\":\"@/hello\",\"timeout\":\"300ms\"}", "nav_timeout");
        good(&f, "browser.text", "{\"url\":\"@/hello\",\"timeout\":\"40s\"}");
        CHECK(browser_pid() != pid);
        close_world(&f);
}

static void cancel_when_asked(uv_timer_t *t)
{
        struct fake *f = t->data;

        if (!srv.n)
                return;
        uv_timer_stop(t);
        fake_cancel(f, 1000);
}

TEST(browser, a_call_is_cancelled_wherever_it_stands)
{
        struct fake f;
        uv_timer_t look;

        if (missing())
                return;
        open_world(&f, NULL);
        fake_start(&f, "browser.navigate",
                   "{\"url\":\"http://127.0.0.1:65431/\"}"); /* while it waits for a page */
        fake_cancel(&f, 1000);
        fake_run(&f);
        CHECK_INT(f.outcome, TOOL_CANCELLED);
        uv_timer_init(&f.loop, &look);
        look.data = &f;
        uv_timer_start(&look, cancel_when_asked, 1, 1);
        call(&f, "browser.navigate", "{\"url\":\"@/hang\"}");
        CHECK_INT(f.outcome, TOOL_CANCELLED);
        CHECK_STR(f.code, "cancelled");
        uv_close((uv_handle_t *)&look, NULL);
        close_world(&f);
}

TEST(browser, without_a_browser_it_says_what_to_install)
{
        struct fake f;
        char *path = mem_strdup(getenv("PATH"));

        open_world(&f, NULL);
        setenv("PATH", "/nowhere", 1);
        CHECK(!browser_available());
        fails(&f, "browser.navigate", "{\"url\":\"@/hello\"}", "browser_missing");
        CHECK(strstr(f.msg, "apt install chromium-headless-shell") != NULL);
        /* Something of that name that is no browser. */
        fake_put(&f, "chromium", "#!/bin/sh\necho 'no display' >&2\nexit 3\n");
        setenv("PATH", f.home, 1);
        {
                char prog[300];

                snprintf(prog, sizeof prog, "%s/chromium", f.home);
                CHECK(chmod(prog, 0755) == 0);
        }
        fails(&f, "browser.navigate", "{\"url\":\"@/hello\"}", "browser_died");
        CHECK(strstr(f.msg, "no display") != NULL);
        setenv("PATH", path, 1);
        mem_free(path);
        close_world(&f);
}

TEST(browser, wrong_input_is_refused_before_anything_is_done)
{
        static const char *const wrong[] = {
                "{\"actions\":[{\"action\":\"navigate\"}]}",
                "{\"actions\":[{\"action\":\"navigate\",\"url\":\"http://x/\",\"selector\":\"a\"}]}",
                "{\"actions\":[{\"action\":\"press\",\"key\":\"Entr\"}]}",
                "{\"actions\":[{\"action\":\"click\"}]}",
                "{\"actions\":[{\"action\":\"type\",\"selector\":\"a\"}]}",
                "{\"actions\":[{\"action\":\"select\",\"selector\":\"a\"}]}",
                "{\"actions\":[{\"action\":\"wait\",\"timeout\":\"soon\"}]}",
        };
        struct fake f;

        if (missing())
                return;
        open_world(&f, NULL);
        for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
                fails(&f, "browser.run", wrong[i], "bad_input");
                CHECK_INT(f.outcome, TOOL_REFUSED);
        }
        fails(&f, "browser.text", "{}", "bad_input");
        CHECK_INT(fake_children(), 0);
        close_world(&f);
}

TEST(browser, a_denied_browser_is_not_started)
{
        struct fake f;

        if (missing())
                return;
        open_world(&f, "version: 1\ncommands: {deny: [\"chromium*\"]}\n");
        fails(&f, "browser.navigate", "{\"url\":\"@/hello\"}", "policy_denied");
        CHECK_INT(fake_children(), 0);
        close_world(&f);
}

/* The environment of the agent (keys, tokens) does not reach the browser. */
TEST(browser, the_browser_sees_nothing_of_the_agents_environment)
{
        struct fake f;
        char path[64], text[20000];
        size_t n;
        FILE *o;

        if (missing())
                return;
        setenv("SECRET_TOKEN", "hunter2", 1);
        open_world(&f, NULL);
        good(&f, "browser.navigate", "{\"url\":\"@/hello\",\"keep\":true}");
        snprintf(path, sizeof path, "/proc/%d/environ", browser_pid());
        o = fopen(path, "re");
        CHECK(o);
        n = fread(text, 1, sizeof text, o);
        fclose(o);
        CHECK(n > 0 && !memmem(text, n, "hunter2", 7));
        snprintf(path, sizeof path, "/proc/%d/cmdline", browser_pid());
        o = fopen(path, "re");
        n = fread(text, 1, sizeof text, o);
        fclose(o);
        CHECK((memmem(text, n, "--no-sandbox", 12) != NULL) == (geteuid() == 0));
        close_world(&f);
}
