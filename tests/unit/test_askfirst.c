/* What the hub's own policy wants people to look at. */
#include <string.h>

#include "common/err.h"
#include "common/yaml.h"
#include "hub/model/askfirst.h"
#include "tests/lib/test.h"

static int read_rules(const char *yaml, struct askfirst *out, struct err *e)
{
        struct doc *d = NULL;
        int rc;

        CHECK_INT(doc_parse(yaml, strlen(yaml), &d, NULL), 0);
        rc = askfirst_read(d, out, e);
        doc_free(d);
        return rc;
}

TEST(askfirst, the_first_rule_that_fits_counts)
{
        struct askfirst a;
        struct err e = {0};
        const struct askfirst_rule *r;

        CHECK_INT(read_rules(
                          "- {tools: [file.*], agents: ['prod-*'], question: first, quorum: 2, timeout: 1h}\n"
                          "- {tools: ['*'], projects: [shop], workflows: [rel*], roles: [admin], users: "
                          "[ann]}\n",
                          &a, &e),
                  0);
        r = askfirst_find(&a, "file.write", "x", "w", "prod-1");
        CHECK(r && r->rules.quorum == 2 && r->rules.timeout_ms == 3600000);
        CHECK(!askfirst_find(&a, "file.write", "x", "w", "dev-1"));
        r = askfirst_find(&a, "process.exec", "shop", "release", "dev-1");
        CHECK(r && !r->question && r->rules.roles && r->rules.users);
        CHECK(!askfirst_find(&a, "process.exec", "shop", "build", "dev-1"));
        CHECK(!askfirst_find(&a, "process.exec", "shops", "release", "dev-1"));
        askfirst_fini(&a);
        CHECK_INT(askfirst_read(NULL, &a, &e), 0);
        CHECK(!askfirst_find(&a, "process.exec", "shop", "release", "dev-1"));
}

TEST(askfirst, a_section_that_does_not_hold_is_told_with_its_place)
{
        static const struct {
                const char *yaml, *says;
        } bad[] = {{"tools: [a]", "expected a list"},
                   {"- a", "a rule is a map"},
                   {"- {projects: [a]}", "\"tools\": is missing"},
                   {"- {tools: a}", "expected a list"},
                   {"- {tools: []}", "1 to 100"},
                   {"- {tools: [a], agent: [b]}", "did you mean \"agents\""},
                   {"- {tools: [a], roles: [client]}", "technical-operator and admin"},
                   {"- {tools: [a], quorum: 0}", "quorum"},
                   {"- {tools: [a], quorum: '2'}", "quorum"},
                   {"- {tools: [a], timeout: soon}", "timeout"},
                   {"- {tools: [a], question: ''}", "question"}};

        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
                struct askfirst a;
                struct err e = {0};

                CHECK_INT(read_rules(bad[i].yaml, &a, &e), -E_INVAL);
                if (!strstr(e.msg, bad[i].says) || e.line < 1)
                        test_fail(__FILE__, __LINE__, "%s: %s", bad[i].yaml, e.msg);
                CHECK(!a.v);
        }
}
