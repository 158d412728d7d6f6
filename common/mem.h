/* Allocation with a switch for fault injection. All of PHOTON's own memory
 * (and cJSON's, by mem_install_hooks) passes through here. Any thread. */
#ifndef PHOTON_MEM_H
#define PHOTON_MEM_H

#include <stddef.h>

void *mem_alloc(size_t size_bytes);
void *mem_calloc(size_t n, size_t size_bytes); /* zeroed, overflow-checked */
void *mem_realloc(void *p, size_t size_bytes);
char *mem_strdup(const char *s);
char *mem_strndup(const char *s, size_t n); /* s may be NULL if n is 0 */
void *mem_dup(const void *p, size_t n);
void mem_free(void *p); /* accepts NULL */

/* Overwrites before the memory is given away; never optimised out. */
void mem_wipe(void *p, size_t n);

/* Test switch: the n-th allocation from now (1 = the next) fails once;
 * 0 switches it off. Returns how many allocations were made since the last
 * call. Only for single-threaded tests. */
unsigned long mem_fail_nth(unsigned long n);

/* Directs cJSON here. Call once at the start of main. */
void mem_install_hooks(void);

#endif
