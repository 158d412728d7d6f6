/* The text of join tokens: round trip, and a clear word for each mistake. */
#include "common/err.h"
#include "common/id.h"
#include "common/jointoken.h"
#include "common/mem.h"
#include "common/str.h"
#include "tests/lib/test.h"

#include <stdio.h>

static struct join_token sample(void)
{
        struct join_token t = {
                .enroll = "hub.example:7441", .agent = "[::1]:7440", .id = "t-1", .secret_len = 32};

        memset(t.ca_pin, 0xab, sizeof t.ca_pin);
        for (size_t i = 0; i < t.secret_len; i++)
                t.secret[i] = (uint8_t)(i * 7 + 1);
        return t;
}

static char *text_of(const struct join_token *t)
{
        char *text = NULL;

        CHECK_INT(join_token_format(t, &text, NULL), 0);
        return text;
}

/* Parses "pj1." + base64url(json); returns the message. */
static const char *mistake(const char *json)
{
        static struct err e;
        struct join_token t;
        char *b = str_b64url(json, strlen(json)), *text = str_printf("pj1.%s", b);

        memset(&e, 0, sizeof e);
        CHECK_INT(join_token_parse(text, &t, &e), -E_INVAL);
        CHECK(e.msg[0]);
        mem_free(b);
        mem_free(text);
        return e.msg;
}

TEST(jointoken, round_trip)
{
        struct join_token t = sample(), u;
        char *text = text_of(&t);

        CHECK(strncmp(text, "pj1.", 4) == 0);
        CHECK_INT(join_token_parse(text, &u, NULL), 0);
        CHECK_STR(u.enroll, t.enroll);
        CHECK_STR(u.agent, t.agent);
        CHECK_STR(u.id, t.id);
        CHECK_INT(u.secret_len, t.secret_len);
        CHECK(memcmp(u.secret, t.secret, t.secret_len) == 0);
        CHECK(memcmp(u.ca_pin, t.ca_pin, sizeof t.ca_pin) == 0);
        mem_free(text);
}

TEST(jointoken, white_space_around_is_forgiven)
{
        struct join_token t = sample(), u;
        char *text = text_of(&t), *padded = str_printf(" \n%s\r\n", text);

        CHECK_INT(join_token_parse(padded, &u, NULL), 0);
        mem_free(text);
        mem_free(padded);
}

TEST(jointoken, every_cut_is_refused)
{
        struct join_token t = sample(), u;
        char *text = text_of(&t);
        struct err e;

        for (size_t n = strlen(text); n-- > 0;) {
                char *cut = mem_strndup(text, n);

                memset(&e, 0, sizeof e);
                CHECK_INT(join_token_parse(cut, &u, &e), -E_INVAL);
                CHECK(e.msg[0]);
                mem_free(cut);
        }
        mem_free(text);
}

TEST(jointoken, says_what_is_wrong)
{
        struct join_token t;
        struct err e = {0};
        char big[JOIN_TOKEN_TEXT_MAX + 10];

        CHECK_INT(join_token_parse("", &t, &e), -E_INVAL);
        CHECK(strstr(e.msg, "empty"));
        CHECK_INT(join_token_parse("secret-api-token-123", &t, &e), -E_INVAL);
        CHECK(strstr(e.msg, "no join token"));
        CHECK(!strstr(e.msg, "123"));
        CHECK_INT(join_token_parse("pj2.abc", &t, &e), -E_INVAL);
        CHECK(strstr(e.msg, "newer"));
        CHECK_INT(join_token_parse("pj1.ab cd", &t, &e), -E_INVAL);
        CHECK(strstr(e.msg, "white space"));
        CHECK_INT(join_token_parse("pj1.!!!!", &t, &e), -E_INVAL);
        CHECK(strstr(e.msg, "damaged"));
        memset(big, 'a', sizeof big - 1);
        big[sizeof big - 1] = '\0';
        CHECK_INT(join_token_parse(big, &t, &e), -E_INVAL);
        CHECK(strstr(e.msg, "too long"));
}

TEST(jointoken, each_member_is_checked)
{
        static const char pin[] = "abababababababababababababababababababababababababababababababab";
        char j[512];

        CHECK(strstr(mistake("[]"), "damaged"));
        CHECK(strstr(mistake("{}"), "joining"));
        CHECK(strstr(mistake("{\"e\":\"h:1\"}"), "agents"));
        CHECK(strstr(mistake("{\"e\":\"h:0\",\"a\":\"h:1\"}"), "HOST:PORT"));
        CHECK(strstr(mistake("{\"e\":\"h:1\",\"a\":\"h:1\",\"p\":\"00\"}"), "SHA-256"));
        snprintf(j, sizeof j, "{\"e\":\"h:1\",\"a\":\"h:1\",\"p\":\"%s\"}", pin);
        CHECK(strstr(mistake(j), "id"));
        snprintf(j, sizeof j, "{\"e\":\"h:1\",\"a\":\"h:1\",\"p\":\"%s\",\"i\":\"../x\"}", pin);
        CHECK(strstr(mistake(j), "id"));
        snprintf(j, sizeof j, "{\"e\":\"h:1\",\"a\":\"h:1\",\"p\":\"%s\",\"i\":\"x\",\"s\":\"AAAA\"}", pin);
        CHECK(strstr(mistake(j), "secret"));
}

TEST(jointoken, host_and_port)
{
        char host[HOST_PORT_MAX];
        int port;

        CHECK_INT(host_port_split("hub:7440", host, &port, NULL), 0);
        CHECK_STR(host, "hub");
        CHECK_INT(port, 7440);
        CHECK_INT(host_port_split("[fe80::1]:1", host, &port, NULL), 0);
        CHECK_STR(host, "fe80::1");
        CHECK_INT(host_port_split("::1:7440", host, &port, NULL), -E_INVAL);
        CHECK_INT(host_port_split("hub", host, &port, NULL), -E_INVAL);
        CHECK_INT(host_port_split(":7440", host, &port, NULL), -E_INVAL);
        CHECK_INT(host_port_split("hub:65536", host, &port, NULL), -E_INVAL);
        CHECK_INT(host_port_split("[]:1", host, &port, NULL), -E_INVAL);
        CHECK_INT(host_port_split("a b:1", host, &port, NULL), -E_INVAL);
}

static int parse_once(void *arg)
{
        struct join_token t;
        int rc = join_token_parse(arg, &t, NULL);

        return rc == -E_INVAL ? -E_NOMEM : rc; /* cJSON does not tell the two apart */
}

TEST(jointoken, survives_every_failed_allocation)
{
        struct join_token t = sample();
        char *text = text_of(&t);

        mem_install_hooks();
        test_each_alloc_fails(parse_once, text);
        mem_free(text);
}
