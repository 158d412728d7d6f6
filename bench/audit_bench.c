/* What a record of the audit costs, and how long its proof takes: prints one JSON object.
 *
 *   audit_bench [RECORDS] [DIR]
 *
 * Records as they are in life (a decision with its detail) are written in transactions of 1,000; what each
 * costs is the store thread's own CPU time. Then the whole chain is walked as `photon audit verify` and the
 * hub's start do. */
#include "common/err.h"
#include "hub/store/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define PER_TX 1000

static double seconds(clockid_t clock)
{
        struct timespec t;

        clock_gettime(clock, &t);
        return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void die(const char *what, const struct err *e)
{
        fprintf(stderr, "audit_bench: %s: %s\n", what, e ? e->msg : "");
        exit(1);
}

static void write_records(struct store *s, long n)
{
        char object[64], detail[256];

        for (long i = 0; i < n;) {
                struct store_tx *tx = store_begin(s);

                for (int k = 0; k < PER_TX && i < n; k++, i++) {
                        snprintf(object, sizeof object, "01jd3q00000000000000%06ld", i % 1000000);
                        snprintf(detail, sizeof detail,
                                 "{\"workflow\":\"release\",\"definition_sha256\":\"%064lx\",\"project\":"
                                 "\"default\"}",
                                 i);
                        store_put_audit(tx, 1763640000000000 + i, "ann@example.org", "run.submit", object,
                                        detail);
                }
                store_commit(tx, NULL, NULL);
                store_pump(s);
        }
}

int main(int argc, char **argv)
{
        long n = argc > 1 ? atol(argv[1]) : 1000000;
        const char *dir = argc > 2 ? argv[2] : ".";
        struct store_reader *r;
        struct store *s;
        struct err e = {0};
        int64_t records = 0, last = 0;
        uint8_t head[32];
        double cpu, wrote, began;

        if (n < 1)
                die("usage: audit_bench [RECORDS] [DIR]", NULL);
        if (store_open(&(struct store_options){.dir = dir, .create = true}, &s, &e))
                die("cannot open a store", &e);
        cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
        began = seconds(CLOCK_MONOTONIC);
        write_records(s, n);
        cpu = seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
        wrote = seconds(CLOCK_MONOTONIC) - began;
        if (store_reader_open(s, &r, &e))
                die("cannot read", &e);
        began = seconds(CLOCK_MONOTONIC);
        if (audit_verify(r, 0, &records, &last, head, &e))
                die("the chain does not hold", &e);
        printf("{\"records\":%lld,\"write_s\":%.3f,\"cpu_us_per_record\":%.2f,\"verify_s\":%.3f}\n",
               (long long)records, wrote, 1e6 * cpu / (double)n, seconds(CLOCK_MONOTONIC) - began);
        store_reader_close(r);
        store_close(s);
        return records == n ? 0 : 1;
}
