/* Submit -> result known to the submitter, one no-op tool call at a time, over the public HTTPS API on
 * one kept-alive connection; beside it, in the same run and on the same disk, one fdatasync: after
 * appending 4 KiB, and after overwriting 4 KiB of a file that has its blocks (as SQLite's WAL
 * mostly does). Prints JSON. With COUNT 0 only the disk.
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
        char text[8192];
        size_t n;
};

static size_t on_body(char *p, size_t size, size_t n, void *arg)
{
        struct reply *r = arg;
        size_t len = size * n, room = sizeof r->text - 1 - r->n;

        memcpy(r->text + r->n, p, len < room ? len : room);
        r->n += len < room ? len : room;
        r->text[r->n] = 0;
        return len;
}

enum { SYNCS = 500, PREALLOCATED = 4 << 20 };

static int sync_samples(int fd, double *v)
{
        char block[4096];

        memset(block, 'x', sizeof block);
        for (int i = 0; i < SYNCS; i++) {
                double t = now_us();

                if (write(fd, block, sizeof block) != sizeof block || fdatasync(fd))
                        return -1;
                v[i] = now_us() - t;
        }
        qsort(v, SYNCS, sizeof *v, cmp);
        return 0;
}

static int measure_sync(const char *dir, double *append, double *overwrite)
{
        char path[512], *zeros = calloc(1, PREALLOCATED);
        int fd, rc;

        snprintf(path, sizeof path, "%s/fdatasync.probe", dir);
        fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0600);
        if (fd < 0 || !zeros) {
                free(zeros);
                return -1;
        }
        rc = sync_samples(fd, append);
        if (!rc &&
            (pwrite(fd, zeros, PREALLOCATED, 0) != PREALLOCATED || fsync(fd) || lseek(fd, 0, SEEK_SET)))
                rc = -1;
        if (!rc)
                rc = sync_samples(fd, overwrite);
        close(fd);
        unlink(path);
        free(zeros);
        return rc;
}

static void print_disk(const double *append, const double *overwrite)
{
        printf("\"fdatasync_append_p50_ms\":%.3f,\"fdatasync_append_p99_ms\":%.3f,"
               "\"fdatasync_overwrite_p50_ms\":%.3f,\"fdatasync_overwrite_p99_ms\":%.3f}\n",
               append[SYNCS / 2] / 1e3, append[SYNCS * 99 / 100] / 1e3, overwrite[SYNCS / 2] / 1e3,
               overwrite[SYNCS * 99 / 100] / 1e3);
}

int main(int argc, char **argv)
{
        const char *token = getenv("PHOTON_TOKEN");
        int n = argc == 5 ? atoi(argv[3]) : -1;
        static double append[SYNCS], overwrite[SYNCS];
        double *v;
        char url[512], auth[256];
        CURL *c;
        struct curl_slist *h = NULL;

        if (n < 0 || !token) {
                fprintf(stderr, "usage: PHOTON_TOKEN=... noop_latency HUB_URL CA_FILE COUNT DIR\n");
                return 64;
        }
        v = calloc((size_t)n + 1, sizeof *v);
        if (!v || measure_sync(argv[4], append, overwrite)) {
                fprintf(stderr, "noop_latency: no memory, or %s cannot be written\n", argv[4]);
                return 1;
        }
        if (n == 0) {
                printf("{");
                print_disk(append, overwrite);
                free(v);
                return 0;
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
                double t = now_us();
                CURLcode rc;
                long status = 0;

                curl_easy_setopt(c, CURLOPT_WRITEDATA, &r);
                rc = curl_easy_perform(c);
                t = now_us() - t;
                curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &status);
                if (rc || status >= 300 || !strstr(r.text, "\"succeeded\"")) {
                        fprintf(stderr, "noop_latency: call %d: %s, HTTP %ld: %s\n", i,
                                curl_easy_strerror(rc), status, r.text);
                        return 1;
                }
                if (i >= 0)
                        v[i] = t;
        }
        qsort(v, (size_t)n, sizeof *v, cmp);
        printf("{\"calls\":%d,\"p50_ms\":%.3f,\"p99_ms\":%.3f,", n, v[n / 2] / 1e3, v[n * 99 / 100] / 1e3);
        print_disk(append, overwrite);
        curl_easy_cleanup(c);
        curl_slist_free_all(h);
        free(v);
        return 0;
}
