/* What people are told: by the words of a target, signed, and again after how long. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/file.h"
#include "common/json.h"
#include "common/mem.h"
#include "hub/model/approval.h"
#include "hub/notify/notice_text.h"
#include "tests/lib/test.h"

static const struct engine_notice open_one = {.event = "checkpoint.open",
                                              .checkpoint_id = "c1",
                                              .kind = "approval",
                                              .title = "Ship?",
                                              .sha256 = "aa",
                                              .run_id = "r1",
                                              .step_id = "ask",
                                              .workflow = "w",
                                              .project = "shop",
                                              .asked_by = "tim",
                                              .at_us = 1000000,
                                              .expires_us = 61000000};

TEST(notify, the_signature_is_that_of_the_specification)
{
        /* The example of Standard Webhooks, spec/standard-webhooks.md; checked with
         * printf 'msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{"test": 2432232314}' | openssl dgst -sha256 -mac
         * HMAC -macopt hexkey:$(echo MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw | base64 -d | xxd -p) -binary | base64
         */
        static const uint8_t key[] = {0x31, 0xf2, 0x90, 0xf6, 0xbf, 0x06, 0x29, 0x8a, 0xab, 0x4f, 0x08, 0xd4,
                                      0x3c, 0x3f, 0x08, 0x2c, 0xf6, 0x48, 0xa3, 0x62, 0xda, 0x2d, 0xa4, 0xb0};
        struct target t = {.n_keys = 1};
        char *sig;

        memcpy(t.keys[0].bytes, key, sizeof key);
        t.keys[0].n = sizeof key;
        t.keys[1] = t.keys[0];
        sig = notice_signature(&t, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, "{\"test\": 2432232314}");
        CHECK_STR(sig, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        mem_free(sig);
        t.n_keys = 2;
        sig = notice_signature(&t, "a", 1, "b");
        CHECK(strchr(sig, ' ') && strstr(strchr(sig, ' '), " v1,"));
        mem_free(sig);
}

TEST(notify, delays_double_up_to_ten_minutes_and_a_receiver_may_ask_for_longer)
{
        CHECK_INT(notice_delay_ms(1, 0, 0), 500);
        CHECK_INT(notice_delay_ms(1, 0, 0.999999), 999);
        CHECK_INT(notice_delay_ms(3, 0, 0), 2000);
        CHECK_INT(notice_delay_ms(1000, 0, 0), NOTICE_RETRY_MAX_MS / 2);
        CHECK_INT(notice_delay_ms(1, 7000, 0), 7000);
        CHECK_INT(notice_delay_ms(1000, 1000, 0), NOTICE_RETRY_MAX_MS / 2);
        CHECK_INT(notice_delay_ms(1, INT64_MAX, 0), NOTICE_RETRY_AFTER_MS);
}

TEST(notify, a_target_is_told_only_of_what_concerns_it)
{
        char *kinds[] = {"budget", NULL}, *shop[] = {"shop", NULL}, *admin[] = {"admin", NULL},
             *ann[] = {"ann", NULL};
        struct approval_rules r = {.users = cJSON_Parse("[\"ann\"]"),
                                   .escalate_roles = cJSON_Parse("[\"admin\"]")};
        struct engine_notice n = open_one;

        CHECK(target_wants(&(struct target){0}, &n));
        CHECK(!target_wants(&(struct target){.kinds = kinds}, &n));
        CHECK(target_wants(&(struct target){.projects = shop}, &n));
        CHECK(target_wants(&(struct target){.roles = admin}, &n)); /* anybody may answer it */
        CHECK(!target_wants(&(struct target){.users = ann}, &n));
        CHECK(!target_wants(&(struct target){0},
                            &(struct engine_notice){.event = "audit.head", .kind = "audit"}));
        n.rules = &r;
        CHECK(target_wants(&(struct target){.users = ann}, &n));
        CHECK(!target_wants(&(struct target){.roles = admin}, &n));
        n.event = "checkpoint.escalated";
        CHECK(target_wants(&(struct target){.roles = admin}, &n));
        CHECK(!target_wants(&(struct target){.users = ann}, &n));
        n.event = "checkpoint.delegated";
        n.to = "ann";
        CHECK(target_wants(&(struct target){.users = ann}, &n));
        CHECK(!target_wants(&(struct target){.roles = admin}, &n));
        approval_rules_fini(&r);
}

TEST(notify, a_mail_has_no_line_of_the_questions_making)
{
        char *to[] = {"ann@x", NULL};
        struct target t = {.type = TARGET_SMTP, .from = "hub@x", .to = to};
        static const char head[] =
                "Date: Thu, 01 Jan 1970 00:00:01 +0000\r\nFrom: hub@x\r\nTo: ann@x\r\nSubject: =?UTF-8?B?";
        struct engine_notice n = open_one;
        char *body;

        n.title = "a\r\nBcc: eve@x\r\n\r\n.\r\nQUIT\r\n\xf0\x9f\x9a\x80 and much more text so that it must "
                  "be split";
        body = notice_body(&t, &n, "msg_1", NULL);
        CHECK(strncmp(body, head, strlen(head)) == 0);
        CHECK(!strstr(body, "Bcc") && !strstr(body, "QUIT") && strstr(body, "\r\nMessage-ID: <msg_1@x>\r\n"));
        for (const char *line = body; *line; line = strstr(line, "\r\n") + 2)
                CHECK(strcspn(line, "\r\n") <= 78);
        mem_free(body);
}

static void refuses(const char *section, const char *word)
{
        char path[300], text[600];
        struct targets t;
        struct err e = {0};

        snprintf(path, sizeof path, "%s/hub.yaml", test_scratch());
        snprintf(text, sizeof text, "notices:\n  %s\n", section);
        CHECK_INT(file_write_atomic(path, text, strlen(text), 0600, &e), 0);
        if (targets_read(path, &t, &e) == 0) {
                targets_fini(&t);
                test_fail(__FILE__, __LINE__, "%s was taken", section);
        }
        if (!strstr(e.msg, word) || !strstr(e.msg, "hub.yaml:2:"))
                test_fail(__FILE__, __LINE__, "%s: %s", section, e.msg);
}

TEST(notify, a_section_that_does_not_hold_is_told_with_its_place)
{
        refuses("[]", "expected a map");
        refuses("{target: {}}", "did you mean");
        refuses("{url: http://x}", "https://");
        refuses("{give-up-after: soon}", "duration");
        refuses("{give-up-after: 10ms}", "duration");
        refuses("{targets: [x]}", "map of names");
        refuses("{targets: {a b: {type: slack, url: https://x}}}", "no name");
        refuses("{targets: {a: {type: slack}}}", "needs \"url\"");
        refuses("{targets: {a: {type: slack, url: 'https://x y'}}}", "without spaces");
        refuses("{targets: {a: {type: slack, url: https://x, url-file: /x}}}", "keep one");
        refuses("{targets: {a: {type: slack, url: https://x, secret-file: /etc/passwd}}}", "others may");
        refuses("{targets: {a: {type: webhook, url: https://x}}}", "needs \"secret-file\"");
        refuses("{targets: {a: {type: smtp, url: smtps://x, from: a@x}}}", "\"from\" and \"to\"");
        refuses("{targets: {a: {type: smtp, url: smtp://x, from: a@x, to: [b@x], starttls: false}}}",
                "this machine only");
        refuses("{targets: {a: {type: smtp, url: https://x, from: a@x, to: [b@x]}}}", "smtps://");
}
