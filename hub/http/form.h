/* Forms as browsers send them (application/x-www-form-urlencoded, WHATWG URL, section 5.1). Pure; any thread.
 */
#ifndef PHOTON_HTTP_FORM_H
#define PHOTON_HTTP_FORM_H

#include <stddef.h>

/* The first field of this name, decoded, NUL-terminated; "" where there is none. -E_INVAL: it is longer than
 * max - 1 bytes, holds a NUL, a broken escape or no UTF-8. */
int form_field(const char *form, size_t n, const char *name, char *out, size_t max);

#endif
