/* Bytes that cannot be compressed or guessed, the same each time: to print
 * them costs far less than to carry them.
 *
 *     pattern BYTES      writes BYTES of xorshift64* output in pieces of 64 KiB */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WORDS 8192

static int put(const void *p, size_t n)
{
        for (const char *at = p; n;) {
                ssize_t w = write(1, at, n);

                if (w < 0 && errno == EINTR)
                        continue;
                if (w < 0)
                        return -1;
                at += w;
                n -= (size_t)w;
        }
        return 0;
}

int main(int argc, char **argv)
{
        static uint64_t block[WORDS];
        uint64_t left = argc == 2 ? strtoull(argv[1], NULL, 10) : 0, x = 88172645463325252ull;

        if (left == 0) {
                fprintf(stderr, "usage: pattern BYTES\n");
                return 64;
        }
        while (left) {
                size_t n = left < sizeof block ? (size_t)left : sizeof block;

                for (size_t i = 0; i < WORDS; i++) {
                        x ^= x >> 12;
                        x ^= x << 25;
                        x ^= x >> 27;
                        block[i] = x * 2685821657736338717ull;
                }
                if (put(block, n)) {
                        fprintf(stderr, "pattern: %s\n", strerror(errno));
                        return 1;
                }
                left -= n;
        }
        return 0;
}
