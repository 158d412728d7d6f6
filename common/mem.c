#include "common/mem.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* The switch is off in production: then each allocation costs one predicted
 * branch on a byte that nobody writes, so threads do not contend for it. */
static bool counting;
static unsigned long made;    /* allocations since mem_fail_nth */
static unsigned long fail_at; /* 0: none */

static bool must_fail(void)
{
        if (__builtin_expect(!counting, 1))
                return false;
        return ++made == fail_at;
}

void *mem_alloc(size_t size_bytes)
{
        if (must_fail())
                return NULL;
        return malloc(size_bytes ? size_bytes : 1);
}

void *mem_calloc(size_t n, size_t size_bytes)
{
        if (must_fail())
                return NULL;
        if (n == 0 || size_bytes == 0)
                n = size_bytes = 1;
        if (n > PTRDIFF_MAX / size_bytes)
                return NULL;
        return calloc(n, size_bytes);
}

void *mem_realloc(void *p, size_t size_bytes)
{
        if (must_fail())
                return NULL;
        return realloc(p, size_bytes ? size_bytes : 1);
}

void *mem_dup(const void *p, size_t n)
{
        void *copy = mem_alloc(n);

        if (copy && n)
                memcpy(copy, p, n);
        return copy;
}

char *mem_strndup(const char *s, size_t n)
{
        size_t len = n ? strnlen(s, n) : 0; /* nothing may have no address */
        char *copy = len == SIZE_MAX ? NULL : mem_alloc(len + 1);

        if (!copy)
                return NULL;
        if (len)
                memcpy(copy, s, len);
        copy[len] = '\0';
        return copy;
}

char *mem_strdup(const char *s)
{
        return mem_dup(s, strlen(s) + 1);
}

void mem_free(void *p)
{
        free(p);
}

void mem_wipe(void *p, size_t n)
{
        if (p && n)
                explicit_bzero(p, n);
}

unsigned long mem_fail_nth(unsigned long n)
{
        unsigned long before = made;

        made = 0;
        fail_at = n;
        counting = n != 0;
        return before;
}

void mem_install_hooks(void)
{
        cJSON_Hooks hooks = {.malloc_fn = mem_alloc, .free_fn = mem_free};

        cJSON_InitHooks(&hooks);
}
