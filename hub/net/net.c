#include "hub/net/net.h"

#include <curl/curl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/list.h"
#include "common/mailbox.h"
#include "common/mem.h"
#include "common/str.h"

#define CONNECTIONS_MAX 16L /* at once, further ones wait */
#define CONNECT_MS      5000L
#define HEADERS_MAX     64

/* One request. The loop's until net_send gives it to the thread, the thread's until its mail is posted, then
 * the loop's again, which frees it. */
struct job {
        struct mail mail; /* first: on_mail */
        struct list link;
        struct net *net;
        CURL *easy;
        struct curl_slist *headers, *to;
        char *url, *method, *ca_file, *user, *password, *from;
        uint8_t *body;
        size_t body_len, sent;
        bool mail_out, starttls;
        int64_t timeout_ms;
        struct buf answer;
        char error[CURL_ERROR_SIZE];
        bool too_big;
        struct net_answer result;
        char why[CURL_ERROR_SIZE + 80];
        net_done on_done;
        void *arg;
};

/* The mutex is for the list of new jobs and for `stop`: the loop puts in, the thread takes out, and neither
 * holds it for longer than that. A mailbox would need a loop on the other side, which libcurl's poll is. */
struct net {
        struct mailbox *mb;
        CURLM *multi;
        pthread_t thread;
        pthread_mutex_t lock;
        struct list fresh; /* locked */
        bool stop;         /* locked */
        struct list busy;  /* thread */
        atomic_uint pending;
};

/* ---- jobs ---- */

static void wipe_text(char **s)
{
        if (*s)
                mem_wipe(*s, strlen(*s));
        mem_free(*s);
        *s = NULL;
}

static void job_free(struct job *j)
{
        if (!j)
                return;
        if (j->easy)
                curl_easy_cleanup(j->easy);
        for (struct curl_slist *h = j->headers; h; h = h->next)
                mem_wipe(h->data, strlen(h->data)); /* Authorization, signatures */
        curl_slist_free_all(j->headers);
        curl_slist_free_all(j->to);
        mem_free(j->url);
        mem_free(j->method);
        mem_free(j->ca_file);
        mem_free(j->user);
        mem_free(j->from);
        wipe_text(&j->password);
        if (j->body)
                mem_wipe(j->body, j->body_len);
        mem_free(j->body);
        if (j->answer.data)
                mem_wipe(j->answer.data, j->answer.len);
        buf_fini(&j->answer);
        mem_free(j);
}

static int copy_text(char **out, const char *s)
{
        *out = s ? mem_strdup(s) : NULL;
        return s && !*out ? -E_NOMEM : 0;
}

static int copy_list(struct curl_slist **out, const char *const *list)
{
        for (size_t i = 0; list && list[i]; i++) {
                struct curl_slist *l = i < HEADERS_MAX ? curl_slist_append(*out, list[i]) : NULL;

                if (!l)
                        return -E_NOMEM;
                *out = l;
        }
        return 0;
}

static bool is_mail(const char *url)
{
        return strncmp(url, "smtp://", 7) == 0 || strncmp(url, "smtps://", 8) == 0;
}

static int job_create(const struct net_request *r, struct job **out)
{
        struct job *j = mem_calloc(1, sizeof *j);

        if (!j)
                return -E_NOMEM;
        buf_init(&j->answer, r->answer_max ? r->answer_max + 1 : NET_ANSWER_MAX + 1);
        j->body_len = r->body_len;
        j->timeout_ms = r->timeout_ms ? r->timeout_ms : NET_TIMEOUT_MS;
        j->mail_out = is_mail(r->url);
        j->starttls = r->starttls;
        if (r->body_len)
                j->body = mem_dup(r->body, r->body_len);
        if ((r->body_len && !j->body) || copy_text(&j->url, r->url) || copy_text(&j->method, r->method) ||
            copy_text(&j->ca_file, r->ca_file) || copy_text(&j->user, r->user) ||
            copy_text(&j->password, r->password) || copy_text(&j->from, r->from) ||
            copy_list(&j->headers, r->headers) || copy_list(&j->to, r->to)) {
                job_free(j);
                return -E_NOMEM;
        }
        *out = j;
        return 0;
}

/* ---- libcurl's callbacks, on its thread ---- */

static size_t on_body(char *p, size_t size, size_t n, void *ctx)
{
        struct job *j = ctx;

        if (buf_put(&j->answer, p, size * n) == 0 && j->answer.len < j->answer.limit)
                return size * n;
        j->too_big = true;
        return 0; /* ends the transfer */
}

static size_t on_upload(char *p, size_t size, size_t n, void *ctx)
{
        struct job *j = ctx;
        size_t k = j->body_len - j->sent < size * n ? j->body_len - j->sent : size * n;

        memcpy(p, j->body + j->sent, k);
        j->sent += k;
        return k;
}

static void set_up_mail(struct job *j)
{
        curl_easy_setopt(j->easy, CURLOPT_MAIL_FROM, j->from);
        curl_easy_setopt(j->easy, CURLOPT_MAIL_RCPT, j->to);
        curl_easy_setopt(j->easy, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(j->easy, CURLOPT_READFUNCTION, on_upload);
        curl_easy_setopt(j->easy, CURLOPT_READDATA, j);
        if (j->starttls)
                curl_easy_setopt(j->easy, CURLOPT_USE_SSL, (long)CURLUSESSL_ALL);
}

static void set_up_http(struct job *j)
{
        if (j->body) {
                curl_easy_setopt(j->easy, CURLOPT_POSTFIELDS, (char *)j->body);
                curl_easy_setopt(j->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)j->body_len);
        }
        if (j->method)
                curl_easy_setopt(j->easy, CURLOPT_CUSTOMREQUEST, j->method);
        if (j->headers)
                curl_easy_setopt(j->easy, CURLOPT_HTTPHEADER, j->headers);
        curl_easy_setopt(j->easy, CURLOPT_USERAGENT, "photon-hub");
}

static bool set_up(struct job *j)
{
        CURL *h = j->easy = curl_easy_init();

        if (!h)
                return false;
        curl_easy_setopt(h, CURLOPT_PRIVATE, j);
        curl_easy_setopt(h, CURLOPT_URL, j->url);
        curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, "http,https,smtp,smtps");
        curl_easy_setopt(h, CURLOPT_FOLLOWLOCATION, 0L);
        curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(h, CURLOPT_QUICK_EXIT,
                         1L); /* a name that does not resolve does not hold up the end */
        curl_easy_setopt(h, CURLOPT_ERRORBUFFER, j->error);
        curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_body);
        curl_easy_setopt(h, CURLOPT_WRITEDATA, j);
        curl_easy_setopt(h, CURLOPT_TIMEOUT_MS, (long)j->timeout_ms);
        curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
        curl_easy_setopt(h, CURLOPT_SSL_VERIFYPEER, 1L);
        curl_easy_setopt(h, CURLOPT_SSL_VERIFYHOST, 2L);
        if (j->ca_file)
                curl_easy_setopt(h, CURLOPT_CAINFO, j->ca_file);
        if (j->user)
                curl_easy_setopt(h, CURLOPT_USERNAME, j->user);
        if (j->password)
                curl_easy_setopt(h, CURLOPT_PASSWORD, j->password);
        if (j->mail_out)
                set_up_mail(j);
        else
                set_up_http(j);
        return true;
}

/* ---- the thread ---- */

static int code_of(const struct job *j, CURLcode c)
{
        if (j->too_big)
                return -E_TOOBIG;
        switch (c) {
        case CURLE_OK:
                return 0;
        case CURLE_OPERATION_TIMEDOUT:
                return -E_TIMEOUT;
        case CURLE_OUT_OF_MEMORY:
                return -E_NOMEM;
        case CURLE_LOGIN_DENIED:
                return -E_DENIED;
        default:
                return -E_UNAVAIL;
        }
}

static void on_mail(struct mail *m)
{
        struct job *j = (struct job *)m;

        j->on_done(j->arg, &j->result);
        job_free(j);
}

static void finish(struct job *j, CURLcode c)
{
        curl_off_t wait = 0;
        int rc = code_of(j, c);

        if (j->easy) {
                curl_easy_getinfo(j->easy, CURLINFO_RESPONSE_CODE, &j->result.status);
                curl_easy_getinfo(j->easy, CURLINFO_RETRY_AFTER, &wait);
        }
        if (buf_putc(&j->answer, '\0') && !rc)
                rc = -E_NOMEM;
        j->result.rc = rc;
        if (rc == -E_TOOBIG)
                snprintf(j->why, sizeof j->why, "its answer is too large");
        else if (rc)
                snprintf(j->why, sizeof j->why, "%s", j->error[0] ? j->error : curl_easy_strerror(c));
        j->result.why = j->why;
        j->result.body = j->answer.data && !rc ? (const char *)j->answer.data : "";
        j->result.len = j->answer.data && !rc ? j->answer.len - 1 : 0;
        j->result.retry_after_ms = (int64_t)wait * 1000;
        list_remove(&j->link);
        atomic_fetch_sub(&j->net->pending, 1); /* the mail may run when the net is gone */
        j->mail.run = on_mail;
        mailbox_post(j->net->mb, &j->mail);
}

static void take_fresh(struct net *n)
{
        struct list *it;

        for (;;) {
                struct job *j;

                pthread_mutex_lock(&n->lock);
                it = list_pop(&n->fresh);
                pthread_mutex_unlock(&n->lock);
                if (!it)
                        return;
                j = container_of(it, struct job, link);
                list_push_back(&n->busy, &j->link);
                if (!set_up(j) || curl_multi_add_handle(n->multi, j->easy) != CURLM_OK)
                        finish(j, CURLE_OUT_OF_MEMORY);
        }
}

static void take_done(struct net *n)
{
        CURLMsg *m;
        int left;

        while ((m = curl_multi_info_read(n->multi, &left))) {
                CURLcode result = m->data.result;
                CURL *easy = m->easy_handle;
                struct job *j = NULL;

                if (m->msg != CURLMSG_DONE)
                        continue;
                curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&j);
                curl_multi_remove_handle(n->multi, easy);
                finish(j, result);
        }
}

static bool stopped(struct net *n)
{
        bool stop;

        pthread_mutex_lock(&n->lock);
        stop = n->stop;
        pthread_mutex_unlock(&n->lock);
        return stop;
}

static void *run(void *arg)
{
        struct net *n = arg;
        int running;

        while (!stopped(n)) {
                take_fresh(n);
                curl_multi_perform(n->multi, &running);
                take_done(n);
                curl_multi_poll(n->multi, NULL, 0, 1000, NULL);
        }
        return NULL;
}

/* ---- the loop's side ---- */

int net_create(struct mailbox *mb, struct net **out, struct err *e)
{
        struct net *n = mem_calloc(1, sizeof *n);
        sigset_t all, old;
        int rc;

        if (!n)
                return err_set(e, E_NOMEM, "no memory for outgoing connections");
        n->mb = mb;
        list_init(&n->fresh);
        list_init(&n->busy);
        pthread_mutex_init(&n->lock, NULL);
        if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || !(n->multi = curl_multi_init())) {
                pthread_mutex_destroy(&n->lock);
                mem_free(n);
                return err_set(e, E_NOMEM, "libcurl could not be started");
        }
        curl_multi_setopt(n->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, CONNECTIONS_MAX);
        sigfillset(&all); /* signals are the loop's */
        pthread_sigmask(SIG_BLOCK, &all, &old);
        rc = pthread_create(&n->thread, NULL, run, n);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        if (rc) {
                curl_multi_cleanup(n->multi);
                pthread_mutex_destroy(&n->lock);
                mem_free(n);
                return err_set(e, E_NOMEM, "no thread for outgoing connections");
        }
        *out = n;
        return 0;
}

int net_send(struct net *n, const struct net_request *r, net_done on_done, void *arg, struct err *e)
{
        struct job *j = NULL;
        int rc;

        if (strncmp(r->url, "https://", 8) != 0 && strncmp(r->url, "http://", 7) != 0 && !is_mail(r->url))
                return err_set(e, E_INVAL, "\"%.100s\" is neither http(s):// nor smtp(s)://", r->url);
        if (atomic_load(&n->pending) >= NET_PENDING_MAX)
                return err_set(e, E_FULL, "%u outgoing requests are under way", NET_PENDING_MAX);
        rc = job_create(r, &j);
        if (rc)
                return err_set(e, E_NOMEM, "no memory for an outgoing request");
        j->net = n;
        j->on_done = on_done;
        j->arg = arg;
        atomic_fetch_add(&n->pending, 1);
        pthread_mutex_lock(&n->lock);
        list_push_back(&n->fresh, &j->link);
        pthread_mutex_unlock(&n->lock);
        curl_multi_wakeup(n->multi);
        return 0;
}

void net_close(struct net *n)
{
        struct list *it;

        if (!n)
                return;
        pthread_mutex_lock(&n->lock);
        n->stop = true;
        pthread_mutex_unlock(&n->lock);
        curl_multi_wakeup(n->multi);
        pthread_join(n->thread, NULL);
        while ((it = list_pop(&n->busy))) {
                struct job *j = container_of(it, struct job, link);

                if (j->easy)
                        curl_multi_remove_handle(n->multi, j->easy);
                job_free(j);
        }
        while ((it = list_pop(&n->fresh)))
                job_free(container_of(it, struct job, link));
        curl_multi_cleanup(n->multi);
        pthread_mutex_destroy(&n->lock);
        mem_free(n);
}
