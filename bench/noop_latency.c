/* Submit -> result known to the submitter, one no-op tool call at a time, over the public HTTPS API on
 * one kept-alive connection; beside it, in the same run and on the same disk, one fdatasync
 * after a 4 KiB append. Prints JSON.
 *
 *     noop_latency HUB_URL CA_FILE COUNT DIR      (token in PHOTON_TOKEN) */
#include <curl/curl.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static double now_us(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int cmp(const void *a, const void *b)
{
        double x = *(const double *)a, y = *(const double *)b;

        return x < y ? -1 : x > y;
}

struct reply {
        char   text[8192];
        size_t n;
};

static size_t on_body(char *p, size_t size, size_t n, void *arg)
{
        struct reply *r = arg;
        size_t        len = size * n, room = sizeof r->text - 1 - r->n;

        memcpy(r->text + r->n, p, len < room ? len : room);
        r->n += len < room ? len : room;
        r->text[r->n] = 0;
        return len;
}

static int measure_sync(const char *dir, double *v, int n)
{
        char path[512], block[4096];
        int  fd;

        memset(block, 'x', sizeof block);
        snprintf(path, sizeof path, "%s/fdatasync.probe", dir);
        fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0600);
        if (fd < 0)
                return -1;
        for (int i = 0; i < n; i++) {
                double t = now_us();

                if (write(fd, block, sizeof block) != sizeof block || fdatasync(fd)) {
                        close(fd);
                        return -1;
                }
                v[i] = now_us() - t;
        }
        close(fd);
        unlink(path);
        qsort(v, (size_t)n, sizeof *v, cmp);
        return 0;
}

int main(int argc, char **argv)
{
        const char        *token = getenv("PHOTON_TOKEN");
        int                n = argc == 5 ? atoi(argv[3]) : 0;
        double            *v, *sync;
        char               url[512], auth[256];
        CURL              *c;
        struct curl_slist *h = NULL;

        if (n < 1 || !token) {
                fprintf(stderr, "usage: PHOTON_TOKEN=... noop_latency HUB_URL CA_FILE COUNT DIR\n");
                return 64;
        }
        v = calloc((size_t)n, sizeof *v);
        sync = calloc((size_t)n, sizeof *sync);
        if (!v || !sync || measure_sync(argv[4], sync, n)) {
                fprintf(stderr, "noop_latency: no memory, or %s cannot be written\n", argv[4]);
                return 1;
        }
        snprintf(url, sizeof url, "%s/api/v1/calls?wait=true", argv[1]);
        snprintf(auth, sizeof auth, "Authorization: Bearer %s", token);
        h = curl_slist_append(h, auth);
        h = curl_slist_append(h, "Content-Type: application/json");
        c = curl_easy_init();
        curl_easy_setopt(c, CURLOPT_URL, url);
        curl_easy_setopt(c, CURLOPT_CAINFO, argv[2]);
        curl_easy_setopt(c, CURLOPT_HTTPHEADER, h);
        curl_easy_setopt(c, CURLOPT_POSTFIELDS, "{\"tool\":\"photon.echo\",\"input\":{}}");
        curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
        curl_easy_setopt(c, CURLOPT_TCP_NODELAY, 1L);
        for (int i = -20; i < n; i++) { /* the first twenty warm it up */
                struct reply r = {.n = 0};
                double       t = now_us();
                CURLcode     rc;
                long         status = 0;

                curl_easy_setopt(c, CURLOPT_WRITEDATA, &r);
                rc = curl_easy_perform(c);
                t = now_us() - t;
                curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &status);
                if (rc || status >= 300 || !strstr(r.text, "\"succeeded\"")) {
                        fprintf(stderr, "noop_latency: call %d: %s, HTTP %ld: %s\n", i, curl_easy_strerror(rc), status, r.text);
                        return 1;
                }
                if (i >= 0)
                        v[i] = t;
        }
        qsort(v, (size_t)n, sizeof *v, cmp);
        printf("{\"calls\":%d,\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"fdatasync_p50_ms\":%.3f,\"p50_in_fdatasyncs\":%.2f}\n", n,
               v[n / 2] / 1e3, v[n * 99 / 100] / 1e3, sync[n / 2] / 1e3, v[n / 2] / sync[n / 2]);
        curl_easy_cleanup(c);
        curl_slist_free_all(h);
        free(v);
        free(sync);
        return 0;
}
