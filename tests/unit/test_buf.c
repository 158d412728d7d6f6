#include "tests/lib/test.h"

#include "common/buf.h"
#include "common/err.h"
#include "common/mem.h"

TEST(buf, appends_and_consumes)
{
        struct buf b;
        char *s;

        buf_init(&b, 0);
        CHECK_INT(buf_puts(&b, "hello"), 0);
        CHECK_INT(buf_putc(&b, ' '), 0);
        CHECK_INT(buf_printf(&b, "%d", 42), 0);
        CHECK_INT(buf_put(&b, NULL, 0), 0);
        CHECK_INT(b.len, 8);
        buf_consume(&b, 6);
        CHECK(b.len == 2 && memcmp(b.data, "42", 2) == 0);
        s = buf_steal_str(&b);
        CHECK_STR(s, "42");
        CHECK(b.len == 0 && b.data == NULL);
        mem_free(s);
        s = buf_steal_str(&b);
        CHECK_STR(s, "");
        mem_free(s);
        buf_fini(&b);
}

TEST(buf, printf_longer_than_the_stack_buffer)
{
        struct buf b;
        char text[1000];

        memset(text, 'x', sizeof text);
        text[999] = '\0';
        buf_init(&b, 0);
        CHECK_INT(buf_printf(&b, "<%s>", text), 0);
        CHECK_INT(b.len, 1001);
        CHECK(b.data[0] == '<' && b.data[1000] == '>');
        buf_fini(&b);
}

TEST(buf, limit_leaves_it_unchanged)
{
        struct buf b;

        buf_init(&b, 100);
        CHECK_INT(buf_puts(&b, "0123456789"), 0);
        CHECK_INT(buf_reserve(&b, 91), -E_TOOBIG);
        CHECK_INT(buf_reserve(&b, SIZE_MAX), -E_TOOBIG);
        CHECK_INT(buf_printf(&b, "%0500d", 1), -E_TOOBIG);
        CHECK_INT(b.len, 10);
        CHECK_INT(buf_reserve(&b, 90), 0);
        CHECK(b.cap <= 100);
        buf_reset(&b);
        CHECK_INT(b.len, 0);
        buf_fini(&b);
}

TEST(buf, big_endian)
{
        uint8_t raw[8];
        struct buf b;

        u64be_store(raw, 0x0102030405060708u);
        CHECK(raw[0] == 1 && raw[7] == 8);
        CHECK(u64be_load(raw) == 0x0102030405060708u);
        CHECK_INT(u32be_load(raw), 0x01020304);
        buf_init(&b, 0);
        CHECK_INT(buf_put_u32be(&b, 0xfffefdfcu), 0);
        CHECK(u32be_load(b.data) == 0xfffefdfcu);
        buf_fini(&b);
}

static int fill(void *arg)
{
        struct buf b;
        int rc;

        (void)arg;
        buf_init(&b, 0);
        rc = buf_puts(&b, "some");
        if (!rc)
                rc = buf_printf(&b, "%0400d", 7);
        if (!rc)
                rc = buf_reserve(&b, 5000);
        buf_fini(&b);
        return rc;
}

TEST(buf, survives_no_memory)
{
        test_each_alloc_fails(fill, NULL);
}
