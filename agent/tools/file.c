/* The call side of the file tools: to the pool and back. */
#include "agent/tools/file_in.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "agent/tools/answer.h"
#include "common/err.h"
#include "common/json.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/str.h"

/* --- errors of the work ----------------------------------------------------- */

int work_fail(struct file_work *w, int code, const char *name, const char *fmt, ...)
{
        va_list ap;

        va_start(ap, fmt);
        err_setv(&w->e, code, fmt, ap);
        va_end(ap);
        w->code = name;
        return -code;
}

int work_nomem(struct file_work *w)
{
        return work_fail(w, E_NOMEM, NULL, "the agent is out of memory");
}

int work_errno(struct file_work *w, int sys, const char *what, const char *path)
{
        const char *hint = "";

        if (sys == ENOMEM)
                return work_nomem(w);
        if (sys == ENOENT)
                return work_fail(w, E_NOENT, NULL, "cannot %s %s: it does not exist on this agent", what,
                                 path);
        if (sys == ELOOP)
                return work_fail(w, E_DENIED, "policy_denied",
                                 "cannot %s %s: a symbolic link was put in its way while the call ran", what,
                                 path);
        if (sys == EACCES || sys == EPERM)
                hint = "; the agent's user may not do that";
        else if (sys == ENOSPC || sys == EDQUOT)
                hint = "; free some space and retry the step";
        else if (sys == EROFS)
                hint = "; choose a path on a writable file system";
        return work_fail(w, err_from_errno(sys), NULL, "cannot %s %s: %s%s", what, path, strerror(sys), hint);
}

/* --- paths -------------------------------------------------------------------- */

static int input_path(const cJSON *input, const char **out, struct err *e)
{
        return json_str(input, "path", out, e);
}

int path_nofollow(const struct policy *p, enum policy_access a, const char *path, char **out_real,
                  struct err *e)
{
        size_t n = strlen(path);
        const char *base;
        char *parent = NULL, *real_parent = NULL, *real = NULL;
        int rc;

        while (n > 1 && path[n - 1] == '/')
                n--;
        for (base = path + n; base > path && base[-1] != '/';)
                base--;
        n -= (size_t)(base - path);
        /* Names that mean another folder, and "~", have no last link to keep. */
        if (n == 0 || (n <= 2 && strncmp(base, "..", n) == 0) || (base == path && *path == '~') ||
            *base == '/')
                return policy_path(p, a, path, NULL, out_real, e);
        parent = base == path ? mem_strdup(policy_home(p)) : mem_strndup(path, (size_t)(base - path));
        if (!parent)
                return err_set(e, E_NOMEM, "out of memory");
        rc = policy_resolve(p, parent, &real_parent, e);
        if (rc == 0) {
                real = str_printf("%s/%.*s", strcmp(real_parent, "/") == 0 ? "" : real_parent, (int)n, base);
                rc = real ? policy_path_real(p, a, real, e) : err_set(e, E_NOMEM, "out of memory");
        }
        if (rc == 0) {
                *out_real = real;
                real = NULL;
        }
        mem_free(parent);
        mem_free(real_parent);
        mem_free(real);
        return rc;
}

static int denied(struct file_work *w, int rc)
{
        if (rc == -E_DENIED) {
                w->code = "policy_denied";
                w->refused = true;
        }
        return rc;
}

int work_path(struct file_work *w, enum policy_access a, char **out_real)
{
        const char *path = NULL;
        int rc = input_path(w->input, &path, &w->e);

        return rc ? rc : denied(w, policy_path(w->policy, a, path, NULL, out_real, &w->e));
}

int work_path_again(struct file_work *w, enum policy_access a, const char *real)
{
        return denied(w, policy_path_real(w->policy, a, real, &w->e));
}

int work_path_nofollow(struct file_work *w, enum policy_access a, char **out_real)
{
        const char *path = NULL;
        int rc = input_path(w->input, &path, &w->e);

        return rc ? rc : denied(w, path_nofollow(w->policy, a, path, out_real, &w->e));
}

/* Only what the policy says counts here; that a path does not exist is the answer of the work. */
static int permit(const struct policy *p, enum policy_access a, const cJSON *input, bool follow,
                  struct err *e)
{
        const char *path = NULL;
        char *real = NULL;
        int rc = input_path(input, &path, e);

        if (rc)
                return rc;
        rc = follow ? policy_path(p, a, path, NULL, &real, e) : path_nofollow(p, a, path, &real, e);
        mem_free(real);
        return rc == -E_DENIED || rc == -E_NOMEM || rc == -E_INVAL ? rc : 0;
}

int file_permit_read(const struct policy *p, const cJSON *input, struct err *e)
{
        return permit(p, POLICY_READ, input, true, e);
}

int file_permit_write(const struct policy *p, const cJSON *input, struct err *e)
{
        return permit(p, POLICY_WRITE, input, true, e);
}

int file_permit_patch(const struct policy *p, const cJSON *input, struct err *e)
{
        int rc = permit(p, POLICY_READ, input, true, e);

        return rc ? rc : permit(p, POLICY_WRITE, input, true, e);
}

int file_permit_stat(const struct policy *p, const cJSON *input, struct err *e)
{
        return permit(p, POLICY_READ, input,
                      !cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(input, "follow")), e);
}

int file_permit_delete(const struct policy *p, const cJSON *input, struct err *e)
{
        return permit(p, POLICY_WRITE, input, false, e);
}

/* --- the pool ------------------------------------------------------------------ */

static void work_free(struct file_work *w)
{
        cJSON_Delete(w->input);
        cJSON_Delete(w->out);
        mem_free(w);
}

/* The job may let go only when neither pool nor loop holds w any more. */
static void settle(struct file_work *w)
{
        if (w->working || w->timer_open)
                return;
        if (!w->c) {
                work_free(w);
                return;
        }
        if (w->rc == 0) {
                cJSON *out = w->out;

                w->out = NULL;
                answer_ok(w->c, out);
        } else if (w->rc == -E_CANCELLED) {
                answer_bad(w->c, TOOL_CANCELLED, "cancelled", &w->e, NULL);
        } else {
                answer_bad(w->c, w->refused ? TOOL_REFUSED : TOOL_FAILED, w->code, &w->e, NULL);
        }
}

static void on_timer_closed(uv_handle_t *h)
{
        struct file_work *w = h->data;

        w->timer_open = false;
        settle(w);
}

static void on_work(uv_work_t *req)
{
        struct file_work *w = req->data;

        w->rc = w->run(w);
}

static void after_work(uv_work_t *req, int status)
{
        struct file_work *w = req->data;

        w->working = false;
        if (status == UV_ECANCELED) {
                w->rc = -E_CANCELLED;
                err_set(&w->e, E_CANCELLED, "cancelled before it began");
        }
        if (w->timer_open && !uv_is_closing((uv_handle_t *)&w->timer))
                uv_close((uv_handle_t *)&w->timer, on_timer_closed);
        settle(w);
}

static int start(struct tool_call *c, const cJSON *input, int (*run)(struct file_work *), struct err *e)
{
        struct file_work *w = mem_calloc(1, sizeof *w);
        int rc;

        if (!w || !(w->input = cJSON_Duplicate(input, true))) {
                mem_free(w);
                return err_set(e, E_NOMEM, "out of memory");
        }
        w->c = c;
        w->policy = c->policy;
        w->run = run;
        w->req.data = w;
        w->working = true;
        rc = uv_queue_work(c->loop, &w->req, on_work, after_work);
        if (rc) {
                work_free(w);
                return err_set(e, err_from_errno(-rc), "cannot start work: %s", uv_strerror(rc));
        }
        c->state = w;
        return 0;
}

/* The thread is stuck (a dead network disk). The call ends; what the thread does when it wakes is lost. */
static void on_grace_over(uv_timer_t *t)
{
        struct file_work *w = t->data;
        struct tool_call *c = w->c;
        struct err e;

        log_warn("file", "work hangs in the kernel and is abandoned", "attempt=%llu tool=%s",
                 (unsigned long long)c->attempt_id, c->tool->name);
        err_set(&e, E_CANCELLED,
                "the file system did not answer within the grace; it is unknown how far it got");
        w->c = NULL;
        c->state = NULL;
        uv_close((uv_handle_t *)&w->timer, on_timer_closed);
        answer_bad(c, TOOL_CANCELLED, "cancelled", &e, NULL);
}

void file_cancel(struct tool_call *c, int grace_ms)
{
        struct file_work *w = c->state;

        if (!w || !w->working)
                return;
        atomic_store(&w->stop, true);
        if (uv_cancel((uv_req_t *)&w->req) == 0 || w->timer_open)
                return;
        if (uv_timer_init(c->loop, &w->timer) != 0)
                return;
        w->timer.data = w;
        w->timer_open = true;
        uv_timer_start(&w->timer, on_grace_over, grace_ms < 0 ? 0 : (uint64_t)grace_ms, 0);
}

void file_free(struct tool_call *c)
{
        struct file_work *w = c->state;

        if (w)
                work_free(w);
        c->state = NULL;
}

int file_read_start(struct tool_call *c, const cJSON *input, struct err *e)
{
        return start(c, input, file_read_run, e);
}

int file_write_start(struct tool_call *c, const cJSON *input, struct err *e)
{
        return start(c, input, file_write_run, e);
}

int file_list_start(struct tool_call *c, const cJSON *input, struct err *e)
{
        return start(c, input, file_list_run, e);
}

int file_stat_start(struct tool_call *c, const cJSON *input, struct err *e)
{
        return start(c, input, file_stat_run, e);
}

int file_delete_start(struct tool_call *c, const cJSON *input, struct err *e)
{
        return start(c, input, file_delete_run, e);
}

int file_patch_start(struct tool_call *c, const cJSON *input, struct err *e)
{
        return start(c, input, file_patch_run, e);
}
