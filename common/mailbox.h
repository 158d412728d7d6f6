/* The only road from another thread to the loop. Anyone posts; the loop
 * thread runs each mail's function in order of posting. */
#ifndef PHOTON_MAILBOX_H
#define PHOTON_MAILBOX_H

#include <uv.h>

struct mailbox;

/* Embedded in the message it carries; owned by the sender until posted, by
 * the receiver's `run` afterwards (which frees the message). */
struct mail {
        struct mail *next;
        void (*run)(struct mail *m);
};

int mailbox_create(uv_loop_t *loop, struct mailbox **out);

/* Any thread. Never fails, never blocks for long. */
void mailbox_post(struct mailbox *mb, struct mail *m);

/* Loop thread. Runs what is waiting now; returns how many ran. */
int mailbox_drain(struct mailbox *mb);

/* Loop thread. Closes asynchronously, on_closed (may be NULL) comes from the
 * loop; mails posted later are never run. Stop the threads that post first,
 * then drain, then close: after on_closed the mailbox is gone. */
void mailbox_close(struct mailbox *mb, void (*on_closed)(void *arg), void *arg);

#endif
