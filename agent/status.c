#include "agent/status.h"

#include "agent/conf.h"
#include "agent/identity.h"
#include "common/buf.h"
#include "common/clock.h"
#include "common/err.h"
#include "common/file.h"
#include "common/json.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/str.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define ANSWER_MAX (1u << 20)
#define ANSWER_MS  5000

struct status_server {
        uv_pipe_t listener;
        cJSON *(*describe)(void *arg);
        void *arg;
        int clients, handles;
        bool closing;
        char *path; /* as bound, to be unlinked */
        void (*on_closed)(void *arg);
        void *closed_arg;
};

struct client {
        uv_pipe_t pipe;
        uv_write_t write;
        struct status_server *server;
        char *text;
};

/* A socket's path has room for 107 bytes: a long folder is reached through an open descriptor. */
static char *socket_path(const char *data_dir, int *out_dir_fd)
{
        char *path = path_join(data_dir, "agent.sock");

        *out_dir_fd = -1;
        if (!path || strlen(path) < sizeof((struct sockaddr_un *)0)->sun_path)
                return path;
        mem_free(path);
        *out_dir_fd = open(data_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
        return *out_dir_fd < 0 ? NULL : str_printf("/proc/self/fd/%d/agent.sock", *out_dir_fd);
}

static void server_unref(struct status_server *s)
{
        if (--s->handles > 0)
                return;
        if (s->on_closed)
                s->on_closed(s->closed_arg);
        mem_free(s->path);
        mem_free(s);
}

static void on_client_closed(uv_handle_t *h)
{
        struct client *c = h->data;
        struct status_server *s = c->server;

        s->clients--;
        mem_free(c->text);
        mem_free(c);
        server_unref(s);
}

static void on_written(uv_write_t *w, int status)
{
        struct client *c = w->data;

        (void)status; /* who hangs up early wanted no more */
        uv_close((uv_handle_t *)&c->pipe, on_client_closed);
}

static void on_connection(uv_stream_t *l, int status)
{
        struct status_server *s = l->data;
        struct client *c;
        cJSON *doc;
        uv_buf_t b;

        if (status || s->closing || s->clients >= STATUS_CLIENTS_MAX || !(c = mem_calloc(1, sizeof *c)))
                return;
        c->server = s;
        uv_pipe_init(l->loop, &c->pipe, 0);
        c->pipe.data = c->write.data = c;
        s->clients++;
        s->handles++;
        doc = s->describe(s->arg);
        c->text = doc ? json_text(doc) : NULL;
        cJSON_Delete(doc);
        if (uv_accept(l, (uv_stream_t *)&c->pipe) || !c->text) {
                uv_close((uv_handle_t *)&c->pipe, on_client_closed);
                return;
        }
        b = uv_buf_init(c->text, (unsigned)strlen(c->text));
        if (uv_write(&c->write, (uv_stream_t *)&c->pipe, &b, 1, on_written))
                uv_close((uv_handle_t *)&c->pipe, on_client_closed);
}

static void on_listener_closed(uv_handle_t *h)
{
        server_unref(h->data);
}

int status_server_open(uv_loop_t *loop, const char *data_dir, cJSON *(*describe)(void *arg), void *arg,
                       struct status_server **out, struct err *e)
{
        struct status_server *s = mem_calloc(1, sizeof *s);
        mode_t was;
        int dir_fd, rc;

        if (!s)
                return err_set(e, E_NOMEM, "no memory for the status socket");
        s->describe = describe;
        s->arg = arg;
        s->path = socket_path(data_dir, &dir_fd);
        if (!s->path) {
                mem_free(s);
                return err_set(e, E_NOMEM, "no memory for the status socket");
        }
        unlink(s->path); /* of an agent that was killed: we hold the lock */
        uv_pipe_init(loop, &s->listener, 0);
        s->listener.data = s;
        s->handles = 1;
        was = umask(0177);
        rc = uv_pipe_bind(&s->listener, s->path);
        umask(was);
        if (!rc)
                rc = uv_listen((uv_stream_t *)&s->listener, STATUS_CLIENTS_MAX, on_connection);
        if (dir_fd >= 0)
                close(dir_fd);
        if (rc) {
                s->on_closed = NULL;
                uv_close((uv_handle_t *)&s->listener, on_listener_closed);
                return err_set(e, E_IO, "cannot listen on %s/agent.sock: %s", data_dir, uv_strerror(rc));
        }
        /* Asking is rare; it is no reason to keep the loop alive. */
        uv_unref((uv_handle_t *)&s->listener);
        *out = s;
        return 0;
}

void status_server_close(struct status_server *s, void (*on_closed)(void *arg), void *arg)
{
        s->closing = true;
        s->on_closed = on_closed;
        s->closed_arg = arg;
        uv_close((uv_handle_t *)&s->listener, on_listener_closed);
}

/* The client. */

static int ask(const char *data_dir, char **out, size_t *out_len)
{
        struct sockaddr_un to = {.sun_family = AF_UNIX};
        struct buf b;
        char *path;
        int fd, dir_fd, rc = -E_NOENT;

        path = socket_path(data_dir, &dir_fd);
        fd = path ? socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0) : -1;
        buf_init(&b, ANSWER_MAX);
        if (fd >= 0 && strlen(path) < sizeof to.sun_path) {
                memcpy(to.sun_path, path, strlen(path) + 1);
                rc = connect(fd, (struct sockaddr *)&to, sizeof to) ? -E_NOENT : 0;
        }
        while (!rc) {
                struct pollfd p = {.fd = fd, .events = POLLIN};
                ssize_t n;

                if (poll(&p, 1, ANSWER_MS) <= 0) {
                        rc = -E_TIMEOUT;
                        break;
                }
                rc = buf_reserve(&b, 4096);
                n = rc ? -1 : read(fd, b.data + b.len, 4096);
                if (n <= 0)
                        break;
                b.len += (size_t)n;
        }
        if (!rc && b.len == 0)
                rc = -E_NOENT;
        if (!rc) {
                *out_len = b.len;
                *out = buf_steal_str(&b);
                rc = *out ? 0 : -E_NOMEM;
        }
        if (fd >= 0)
                close(fd);
        if (dir_fd >= 0)
                close(dir_fd);
        buf_fini(&b);
        mem_free(path);
        return rc;
}

int status_ask(const char *data_dir, cJSON **out)
{
        char *text = NULL;
        size_t n = 0;
        int rc = ask(data_dir, &text, &n);

        if (!rc)
                rc = json_parse(text, n, out, NULL);
        mem_free(text);
        return rc;
}

/* What is known of an agent that does not run. */
static cJSON *describe_stopped(const char *data_dir)
{
        struct identity *id = NULL;
        cJSON *o = cJSON_CreateObject();
        struct err e = {0};
        char at[CLOCK_RFC3339_LEN];

        cJSON_AddBoolToObject(o, "running", false);
        if (access(data_dir, R_OK)) {
                cJSON_AddStringToObject(o, "error",
                                        errno == ENOENT ? "the data folder does not exist" : strerror(errno));
                return o;
        }
        if (identity_load(data_dir, &id, &e)) {
                cJSON_AddStringToObject(o, "error", e.msg);
                return o;
        }
        cJSON_AddBoolToObject(o, "enrolled", identity_enrolled(id));
        if (identity_enrolled(id)) {
                cJSON_AddStringToObject(o, "name", id->name);
                cJSON_AddStringToObject(o, "id", id->agent_id);
                cJSON_AddStringToObject(o, "hub", id->agent_addr);
                clock_format(id->not_after_us, at);
                cJSON_AddStringToObject(o, "certificate_not_after", at);
        }
        identity_free(id);
        return o;
}

static void print_text(const cJSON *o)
{
        const cJSON *item;

        cJSON_ArrayForEach(item, o)
        {
                if (cJSON_IsString(item) && strchr(item->valuestring, '\n')) {
                        printf("%s:\n", item->string);
                        for (const char *p = item->valuestring; *p;) {
                                int n = (int)strcspn(p, "\n");

                                printf("  %.*s\n", n, p);
                                p += n + (p[n] == '\n');
                        }
                } else {
                        char *v = cJSON_IsString(item) ? mem_strdup(item->valuestring) : json_text(item);

                        printf("%-22s %s\n", item->string, v ? v : "");
                        mem_free(v);
                }
        }
}

int status_show(const struct agent_conf *conf, bool *out_running, struct err *e)
{
        char *text = NULL, *again;
        cJSON *o = NULL;
        size_t n = 0;
        int rc = ask(conf->data, &text, &n);

        *out_running = rc == 0;
        if (rc == 0)
                rc = json_parse(text, n, &o, e);
        else if (rc == -E_TIMEOUT)
                rc = err_set(e, E_TIMEOUT, "the agent with the data folder %s does not answer", conf->data);
        else if (!(o = describe_stopped(conf->data)))
                rc = err_set(e, E_NOMEM, "no memory for the status");
        else
                rc = 0;
        mem_free(text);
        if (rc)
                return rc;
        if (strcmp(conf->output, "json") == 0) {
                again = json_text(o);
                puts(again ? again : "{}");
                mem_free(again);
        } else {
                print_text(o);
        }
        cJSON_Delete(o);
        return 0;
}
