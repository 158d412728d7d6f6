#include "hub/http/form.h"

#include <stdint.h>
#include <string.h>

#include "common/err.h"
#include "common/str.h"

/* Where the field's value begins; NULL: there is no such field. */
static const char *find(const char *p, const char *end, const char *name)
{
        size_t n = strlen(name);

        while (p < end) {
                const char *amp = memchr(p, '&', (size_t)(end - p));

                if ((size_t)(end - p) > n && memcmp(p, name, n) == 0 && p[n] == '=')
                        return p + n + 1;
                if (!amp)
                        break;
                p = amp + 1;
        }
        return NULL;
}

int form_field(const char *form, size_t n, const char *name, char *out, size_t max)
{
        const char *end = n ? form + n : form, *p = n ? find(form, end, name) : NULL;
        size_t k = 0;

        out[0] = '\0';
        for (; p && p < end && *p != '&'; p++) {
                uint8_t c = (uint8_t)*p;

                if (c == '+') {
                        c = ' ';
                } else if (c == '%') {
                        char two[3] = {0};

                        if (end - p < 3)
                                return -E_INVAL;
                        memcpy(two, p + 1, 2);
                        if (str_unhex(two, &c, 1))
                                return -E_INVAL;
                        p += 2;
                }
                if (!c || k + 1 >= max) {
                        out[0] = '\0';
                        return -E_INVAL;
                }
                out[k++] = (char)c;
        }
        out[k] = '\0';
        if (str_is_utf8(out, k))
                return 0;
        out[0] = '\0';
        return -E_INVAL;
}
