/* What opening a secret costs the hub's loop, rows read and all: prints one JSON object.
 *
 *   vault_bench [OPENINGS] [DIR]
 *
 * A hundred secrets as they are in life (64 bytes), and one of each of 4 and 64 KiB, are set in a real store
 * and opened again and again as a dispatch does it. Sealing is timed alone, without its commit. */
#include "common/clock.h"
#include "common/err.h"
#include "common/id.h"
#include "hub/store/store.h"
#include "hub/vault/vault.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define SECRETS 100

static double now_us(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void die(const char *what, const struct err *e)
{
        fprintf(stderr, "vault_bench: %s: %s\n", what, e ? e->msg : "");
        exit(1);
}

static double set(struct store *s, struct vault *v, const char *name, const void *value, size_t n)
{
        struct vault_put p = {.project = "default", .name = name, .value = value, .n = n, .by = "bench"};
        struct store_tx *tx = store_begin(s);
        const char *code;
        struct err e = {0};
        int64_t version;
        double began = now_us(), took;

        if (vault_put(v, tx, &p, &version, &code, &e))
                die("cannot set", &e);
        took = now_us() - began;
        store_commit(tx, NULL, NULL);
        store_pump(s);
        return took;
}

static int by_value(const void *a, const void *b)
{
        double x = *(const double *)a, y = *(const double *)b;

        return (x > y) - (x < y);
}

/* *p50, *p99: of so many openings, in microseconds. */
static void measure(struct vault *v, const char *fmt, int names, long n, double *p50, double *p99)
{
        double *us = malloc((size_t)n * sizeof *us);

        if (!us)
                die("no memory", NULL);
        for (long i = 0; i < n; i++) {
                struct vault_value val;
                const char *code;
                struct err e = {0};
                char name[32];
                double began;

                snprintf(name, sizeof name, fmt, (int)(i % names));
                began = now_us();
                if (vault_open(v, "default", name, 0, &val, &code, &e))
                        die("cannot open", &e);
                vault_wipe(&val);
                us[i] = now_us() - began;
        }
        qsort(us, (size_t)n, sizeof *us, by_value);
        *p50 = us[n / 2];
        *p99 = us[n * 99 / 100];
        free(us);
}

int main(int argc, char **argv)
{
        static uint8_t value[64 << 10];
        long n = argc > 1 ? atol(argv[1]) : 20000;
        const char *dir = argc > 2 ? argv[2] : ".";
        struct store *s;
        struct vault *v;
        struct err e = {0};
        double seal = 0, p50, p99, p50_4k, p50_64k, none;

        if (n < 100)
                die("usage: vault_bench [OPENINGS] [DIR]", NULL);
        if (store_open(&(struct store_options){.dir = dir, .create = true}, &s, &e) ||
            vault_create(&(struct vault_options){.clock = &clock_system, .store = s, .dir = dir}, &v, &e))
                die("cannot open a vault", &e);
        id_random(value, sizeof value);
        for (int i = 0; i < SECRETS; i++) {
                char name[32];

                snprintf(name, sizeof name, "S%d", i);
                seal += set(s, v, name, value, 64);
        }
        (void)set(s, v, "M0", value, 4 << 10);
        (void)set(s, v, "L0", value, sizeof value);
        measure(v, "S%d", SECRETS, n, &p50, &p99);
        measure(v, "M%d", 1, n, &p50_4k, &none);
        measure(v, "L%d", 1, n / 10, &p50_64k, &none);
        printf("{\"openings\":%ld,\"p50_us\":%.2f,\"p99_us\":%.2f,\"p50_4KiB_us\":%.2f,\"p50_64KiB_us\":%.2f,"
               "\"seal_us\":%.2f}\n",
               n, p50, p99, p50_4k, p50_64k, seal / SECRETS);
        vault_free(v);
        store_close(s);
        return 0;
}
