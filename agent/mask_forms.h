/* The forms in which a secret leaks: what encoders that programs use every day make of its bytes.
 *
 * As it is; base64 and base64url at each of the three alignments, base64 broken into lines of 76 or 64; hex
 * (also as od and xxd write it); percent-encoded as the usual libraries do it; as strings of JSON, C, Python
 * and shells escape it; as HTML and XML. Pure; any thread. */
#ifndef PHOTON_AGENT_MASK_FORMS_H
#define PHOTON_AGENT_MASK_FORMS_H

#include <stddef.h>

/* Calls `add` for each form, some of them more than once, until it returns other than 0, and returns that;
 * the bytes are lent and wiped afterwards. -E_NOMEM. */
int mask_forms(const void *secret, size_t n, int (*add)(void *arg, const void *p, size_t n), void *arg);

#endif
