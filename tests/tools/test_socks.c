/* What SOCKS requests are read as. */
#include <string.h>

#include "agent/tools/socks.h"
#include "common/err.h"
#include "tests/lib/test.h"

static int read_text(const char *v, size_t n, struct socks_request *rq, enum socks_reply *reply)
{
        return socks_read_request((const uint8_t *)v, n, rq, reply);
}

TEST(socks, names_and_addresses_are_read)
{
        struct socks_request rq;
        enum socks_reply reply;

        CHECK_INT(read_text("\5\1\0\3\11localhost\0\120", 16, &rq, &reply), 16);
        CHECK_STR(rq.host, "localhost");
        CHECK_INT(rq.port, 80);
        CHECK(!rq.is_address);
        CHECK_INT(read_text("\5\1\0\1\177\0\0\1\1\273", 10, &rq, &reply), 10);
        CHECK_STR(rq.host, "127.0.0.1");
        CHECK_INT(rq.port, 443);
        CHECK(rq.is_address);
        CHECK_INT(read_text("\5\1\0\3\3::1\0\120", 10, &rq, &reply), 10);
        CHECK_STR(rq.host, "::1");
        CHECK(rq.is_address);
        CHECK_INT(read_text("\5\1\0\3\11"
                            "127.0.0.1\0\120",
                            16, &rq, &reply),
                  16);
        CHECK(rq.is_address); /* an address written as a name */
}

TEST(socks, nothing_is_taken_for_a_name_that_is_none)
{
        struct socks_request rq;
        enum socks_reply reply;

        CHECK_INT(read_text("\5\1\0\3\4a\0bc\0\120", 11, &rq, &reply), -E_PROTO);
        CHECK_INT(read_text("\5\1\0\3\4a/bc\0\120", 11, &rq, &reply), -E_PROTO);
        CHECK_INT(read_text("\5\1\0\3\4a:80\0\120", 11, &rq, &reply), -E_PROTO);
        CHECK_INT(read_text("\5\1\0\3\0\0\120", 7, &rq, &reply), -E_PROTO);
        CHECK_INT(read_text("\4\1\0\3\1a\0\120", 8, &rq, &reply), -E_PROTO);
        CHECK_INT(read_text("\5\3\0\3\1a\0\120", 8, &rq, &reply), -E_NOTSUP); /* UDP */
        CHECK_INT(reply, SOCKS_NO_COMMAND);
        CHECK_INT(read_text("\5\1\0\2\1a\0\120", 8, &rq, &reply), -E_NOTSUP);
        for (size_t n = 0; n < 8; n++)
                CHECK_INT(read_text("\5\1\0\3\1a\0\120", n, &rq, &reply), 0);
        CHECK_INT(socks_read_greeting((const uint8_t *)"\5\2\1\2", 4), -E_NOTSUP); /* wants a password */
        CHECK_INT(socks_read_greeting((const uint8_t *)"\5\2\1\0", 4), 4);
        CHECK_INT(socks_read_greeting((const uint8_t *)"\5\2\1", 3), 0);
        CHECK_INT(socks_read_greeting((const uint8_t *)"GET", 3), -E_PROTO);
}
