/* What a notice says on each road, and how its receiver knows that it is ours and new. Pure.
 *
 * Webhooks are signed after the Standard Webhooks specification (1.0.0): HMAC-SHA256 with the shared key over
 * "ID.TIMESTAMP.BODY", in base64 behind "v1,", one for each key. A receiver recomputes one of them, compares
 * in constant time, refuses timestamps more than five minutes off, and remembers ids for as long: then
 * nothing that was heard on the way can be said again. */
#ifndef PHOTON_NOTIFY_TEXT_H
#define PHOTON_NOTIFY_TEXT_H

#include <stddef.h>
#include <stdint.h>

#include "hub/notify/targets.h"

#define NOTICE_RETRY_MS       INT64_C(1000)
#define NOTICE_RETRY_MAX_MS   (INT64_C(10) * 60 * 1000)
#define NOTICE_RETRY_AFTER_MS (INT64_C(60) * 60 * 1000) /* the longest that a receiver can ask for */

/* The body for this target, as it is sent and kept; mem_free. id: of the delivery. base: what links begin
 * with, or NULL. NULL: no memory. */
char *notice_body(const struct target *t, const struct engine_notice *n, const char *id, const char *base);
/* "v1,BASE64 v1,BASE64"; mem_free; NULL: no memory. */
char *notice_signature(const struct target *t, const char *id, int64_t timestamp_s, const char *body);
/* Until the next try after `attempts` (>= 1) have failed: doubles, capped, half of it by chance (rnd in
 * [0,1)); what the receiver asks for counts, if it is longer and not too long. */
int64_t notice_delay_ms(uint32_t attempts, int64_t retry_after_ms, double rnd);

#endif
