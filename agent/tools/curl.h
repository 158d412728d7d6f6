/* libcurl on the loop, loaded when it is first needed: linking it would cost
 * every idle agent 6 MiB of memory (30 libraries; measured on Debian 12).
 * Loop thread only, one loop per process at a time. */
#ifndef PHOTON_AGENT_TOOLS_CURL_H
#define PHOTON_AGENT_TOOLS_CURL_H

#include <curl/curl.h>
#include <uv.h>

struct err;

/* The functions of libcurl that we use, by the names of the library without "curl_". */
struct curl_lib {
        CURLcode (*global_init)(long flags);
        CURL *(*easy_init)(void);
        void (*easy_cleanup)(CURL *h);
        CURLcode (*easy_set)(CURL *h, CURLoption o, ...);
        CURLcode (*easy_info)(CURL *h, CURLINFO i, ...);
        CURLcode (*easy_pause)(CURL *h, int what);
        const char *(*easy_error)(CURLcode c);
        struct curl_slist *(*slist_append)(struct curl_slist *l, const char *s);
        void (*slist_free_all)(struct curl_slist *l);
        CURLU *(*url)(void);
        void (*url_cleanup)(CURLU *u);
        CURLUcode (*url_set)(CURLU *u, CURLUPart p, const char *s, unsigned flags);
        CURLUcode (*url_get)(const CURLU *u, CURLUPart p, char **out, unsigned flags);
        void (*free)(void *p);
        CURLM *(*multi_init)(void);
        CURLMcode (*multi_cleanup)(CURLM *m);
        CURLMcode (*multi_set)(CURLM *m, CURLMoption o, ...);
        CURLMcode (*multi_add)(CURLM *m, CURL *h);
        CURLMcode (*multi_remove)(CURLM *m, CURL *h);
        CURLMcode (*multi_action)(CURLM *m, curl_socket_t s, int ev, int *running);
        CURLMcode (*multi_assign)(CURLM *m, curl_socket_t s, void *p);
        CURLMsg *(*multi_info)(CURLM *m, int *left);
};

/* A transfer in flight. on_done comes from the loop, never from within curl_start. */
struct transfer {
        CURL *easy;
        void (*on_done)(struct transfer *t, CURLcode result);
        void *data;
};

/* Loads and starts everything on first use. -E_NOTSUP: no libcurl on this machine. */
int curl_open(uv_loop_t *loop, const struct curl_lib **out, struct err *e);

/* t->easy is set up; the engine sets CURLOPT_PRIVATE itself. */
int curl_start(struct transfer *t, struct err *e);
/* Takes it off the engine; on_done will not come. */
void curl_abort(struct transfer *t);

/* No transfer may be in flight. Run the loop once more afterwards. */
void curl_close(void);

#endif
