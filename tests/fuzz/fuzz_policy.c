/* policy_load and the questions: no file may crash the agent; what is refused
 * has a place; what is accepted answers every question. */
#include "agent/policy.h"
#include "common/err.h"
#include "common/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ask(const struct policy *p)
{
        char **env = policy_base_env(p);
        struct policy_answer answer;
        char *real = NULL;

        policy_tool(p, "process.exec", NULL);
        policy_command(p, "git", true, NULL);
        policy_command(p, "/usr/bin/git", false, NULL);
        policy_host(p, "example.com", 443, NULL);
        policy_host(p, "::1", 80, NULL);
        policy_covers_denied(p, "/tmp");
        policy_is_root(p, "/tmp");
        if (policy_path(p, POLICY_WRITE, "/tmp/a/../b", NULL, &real, NULL) == 0)
                mem_free(real);
        policy_question(p,
                        &(struct policy_question){.action = "edit",
                                                  .tool = "Bash",
                                                  .caller = "t",
                                                  .command = "git push; x=$(sudo y) >z",
                                                  .paths = (const char *const[]){"a/b", "/tmp/c", NULL},
                                                  .cwd = "/tmp"},
                        &answer);
        if (answer.verdict != POLICY_ASK && !answer.reason[0])
                abort();
        if (!env || !policy_text(p) || strlen(policy_sha256(p)) != 64 || policy_limits(p)->running < 1 ||
            policy_limits(p)->runtime_ms < 1)
                abort();
        for (char **s = env; *s; s++)
                mem_free(*s);
        mem_free(env);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct policy *p = NULL;
        struct err e = {0};
        char path[64];
        int fd = memfd_create("policy", MFD_CLOEXEC);

        if (fd < 0 || write(fd, data, size) != (ssize_t)size || fchmod(fd, 0600) != 0)
                abort();
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        if (policy_load(path, &p, &e) == 0)
                ask(p);
        else if (!e.msg[0])
                abort();
        policy_free(p);
        close(fd);
        return 0;
}
