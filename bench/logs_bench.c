/* How fast output lands in a log: prints one JSON object.
 *
 *   logs_bench [MIB] [DIR]
 *
 * MIB mebibytes in pieces of 64 KiB through one attempt, made durable every
 * 8 MiB as the hub does before it gives credit back, beside plain write(2) of
 * the same bytes; then read back, and a seek to the end of a fresh reader. */
#include "common/err.h"
#include "hub/logs/logs.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define PIECE      (64u << 10)
#define SYNC_EVERY (8u << 20)

static double now_s(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void check(int rc, const struct err *e)
{
        if (rc == 0)
                return;
        fprintf(stderr, "logs_bench: %s: %s\n", err_name(rc), e ? e->msg : "");
        exit(1);
}

static int syncing;

static void on_durable(void *arg, int rc, uint64_t end)
{
        (void)end, (void)arg;
        check(rc, NULL);
        syncing--;
}

static int count(void *arg, uint64_t offset, int channel, const void *p, size_t n, int64_t at_us)
{
        (void)offset, (void)channel, (void)p, (void)at_us;
        *(uint64_t *)arg += n;
        return 0;
}

static double plain_write(const char *dir, const char *piece, uint64_t total)
{
        double t = now_s();
        char path[512];
        int fd;

        snprintf(path, sizeof path, "%s/plain", dir);
        fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        for (uint64_t at = 0; at < total; at += PIECE) {
                if (write(fd, piece, PIECE) != (ssize_t)PIECE)
                        check(-E_IO, NULL);
                if ((at + PIECE) % SYNC_EVERY == 0)
                        fdatasync(fd);
        }
        close(fd);
        t = now_s() - t;
        unlink(path);
        return t;
}

static double append_all(struct logs *l, uv_loop_t *loop, const char *piece, uint64_t total)
{
        struct err e = {0};
        struct log_file *f;
        uint64_t end;
        double t = now_s();

        check(logs_open(l, 1, &f, &end, &e), &e);
        for (uint64_t at = 0; at < total; at += PIECE) {
                check(log_append(f, at, LOG_STDOUT, piece, PIECE, 1, &e), &e);
                if ((at + PIECE) % SYNC_EVERY == 0) {
                        while (syncing > 1)
                                uv_run(loop, UV_RUN_ONCE);
                        syncing++;
                        check(log_sync(f, on_durable, NULL), NULL);
                }
                uv_run(loop, UV_RUN_NOWAIT);
        }
        syncing++;
        check(log_sync(f, on_durable, NULL), NULL);
        while (syncing)
                uv_run(loop, UV_RUN_ONCE);
        log_close(f);
        return now_s() - t;
}

int main(int argc, char **argv)
{
        static char piece[PIECE];
        char dir[] = "/tmp/logs_bench.XXXXXX", path[512];
        uint64_t total = (argc > 1 ? (uint64_t)atoi(argv[1]) : 256) << 20, got = 0;
        const char *at = argc > 2 ? argv[2] : mkdtemp(dir);
        double append_s, plain_s, read_s, seek_s;
        struct log_reader *r;
        struct err e = {0};
        struct rusage ru;
        struct logs *l;
        uv_loop_t loop;

        memset(piece, 'x', sizeof piece);
        uv_loop_init(&loop);
        check(logs_create(at, &l, &e), &e);
        logs_use_loop(l, &loop);
        append_s = append_all(l, &loop, piece, total);
        plain_s = plain_write(at, piece, total);
        check(log_reader_open(at, 1, &r), NULL);
        read_s = now_s();
        while (got < total)
                check(log_reader_next(r, 1 << 20, count, &got), NULL);
        read_s = now_s() - read_s;
        log_reader_close(r);
        check(log_reader_open(at, 1, &r), NULL);
        got = 0;
        seek_s = now_s();
        check(log_reader_seek(r, total - 10), NULL);
        check(log_reader_next(r, 100, count, &got), NULL);
        seek_s = now_s() - seek_s;
        log_reader_close(r);
        getrusage(RUSAGE_SELF, &ru);
        check(logs_remove(l, 1, &e), &e);
        logs_free(l);
        uv_run(&loop, UV_RUN_DEFAULT);
        uv_loop_close(&loop);
        snprintf(path, sizeof path, "%s/logs/01", at);
        rmdir(path);
        snprintf(path, sizeof path, "%s/logs", at);
        rmdir(path);
        if (argc <= 2)
                rmdir(at);
        printf("{\"bench\":\"logs\",\"mib\":%llu,\"append_mib_s\":%.0f,\"plain_write_mib_s\":%.0f,\"ratio\":%"
               ".2f,"
               "\"read_mib_s\":%.0f,\"seek_to_end_ms\":%.1f,\"max_rss_kib\":%ld}\n",
               (unsigned long long)(total >> 20), (double)(total >> 20) / append_s,
               (double)(total >> 20) / plain_s, plain_s / append_s, (double)(total >> 20) / read_s,
               seek_s * 1e3, ru.ru_maxrss);
        return 0;
}
