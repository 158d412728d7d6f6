/* Intrusive doubly linked list. The item embeds a `struct list`; a head is a
 * `struct list` that points at itself when empty. Never allocates. */
#ifndef PHOTON_LIST_H
#define PHOTON_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
        struct list *next, *prev;
};

#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

static inline void list_init(struct list *l)
{
        l->next = l->prev = l;
}

static inline bool list_empty(const struct list *l)
{
        return l->next == l;
}

static inline void list_push_back(struct list *head, struct list *item)
{
        item->prev = head->prev;
        item->next = head;
        head->prev->next = item;
        head->prev = item;
}

static inline void list_push_front(struct list *head, struct list *item)
{
        list_push_back(head->next, item);
}

/* Leaves the item self-linked, so that removing twice is harmless. */
static inline void list_remove(struct list *item)
{
        item->prev->next = item->next;
        item->next->prev = item->prev;
        list_init(item);
}

/* Detaches and returns the first item, or NULL. */
static inline struct list *list_pop(struct list *head)
{
        struct list *item = head->next;

        if (item == head)
                return NULL;
        list_remove(item);
        return item;
}

#define LIST_EACH(it, head) for (struct list *it = (head)->next; it != (head); it = it->next)
#define LIST_EACH_SAFE(it, nx, head)                                                                         \
        for (struct list *it = (head)->next, *nx = it->next; it != (head); it = nx, nx = it->next)

#endif
