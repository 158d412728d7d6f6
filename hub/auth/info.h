/* What an agent said of itself, kept small: most of it is the list of its tools with their schemas, and
 * that list is the same text for most agents. Equal lists are kept once. Loop thread only. */
#ifndef PHOTON_HUB_AUTH_INFO_H
#define PHOTON_HUB_AUTH_INFO_H

#include <stddef.h>

struct map;
struct info_tail;

/* JSON text in two parts; both NULL: nothing is known. */
struct info {
        char *head;
        struct info_tail *tail; /* shared */
};

/* Replaces. `tails` holds the shared parts and must outlive every info. -E_NOMEM leaves `i` alone. */
int info_set(struct info *i, struct map *tails, const char *json);
/* The whole text, mem_free; NULL: nothing is known, or no memory. */
char *info_join(const struct info *i);
void info_fini(struct info *i);

#endif
