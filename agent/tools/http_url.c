/* Host and port of a URL (RFC 3986), for the question to the policy. What we
 * and libcurl could read differently is refused here. */
#include "agent/tools/http.h"

#include <string.h>

#include "common/err.h"
#include "common/str.h"

int http_split_url(const char *url, char host[256], int *out_port, bool *out_tls, struct err *e)
{
        const char *s, *end, *at, *colon;
        char port_text[8];
        int64_t port;
        size_t n;

        if (strncasecmp(url, "http://", 7) == 0) {
                *out_tls = false;
                s = url + 7;
        } else if (strncasecmp(url, "https://", 8) == 0) {
                *out_tls = true;
                s = url + 8;
        } else {
                return err_set(e, E_INVAL, "url: must start with http:// or https://");
        }
        for (const char *p = url; *p; p++)
                if ((unsigned char)*p <= 0x20 || *p == 0x7f || *p == '\\')
                        return err_set(
                                e, E_INVAL,
                                "url: blanks, control characters and \\ must be written as %%20 and so on");
        end = s + strcspn(s, "/?#");
        at = memchr(s, '@', (size_t)(end - s));
        if (at)
                return err_set(
                        e, E_INVAL,
                        "url: user and password do not belong into the url; use an Authorization header");
        if (*s == '[') {
                const char *close = memchr(s, ']', (size_t)(end - s));

                if (!close || (close + 1 != end && close[1] != ':'))
                        return err_set(e, E_INVAL, "url: the IPv6 address in brackets is not complete");
                colon = close + 1 == end ? NULL : close + 1;
        } else {
                colon = memchr(s, ':', (size_t)(end - s));
        }
        n = (size_t)((colon ? colon : end) - s);
        if (n == 0 || n >= 256)
                return err_set(e, E_INVAL, "url: the host is missing or longer than 255 bytes");
        for (size_t i = 0; i < n; i++)
                if (s[i] == '%' || s[i] == '*')
                        return err_set(e, E_INVAL, "url: the host may not contain %c", s[i]);
        port = *out_tls ? 443 : 80;
        if (colon && colon + 1 < end) {
                size_t k = (size_t)(end - colon - 1);

                if (k >= sizeof port_text)
                        return err_set(e, E_INVAL, "url: the port is not a number from 1 to 65535");
                memcpy(port_text, colon + 1, k);
                port_text[k] = '\0';
                if (str_parse_i64(port_text, 1, 65535, &port) != 0)
                        return err_set(e, E_INVAL, "url: the port is not a number from 1 to 65535");
        }
        memcpy(host, s, n);
        host[n] = '\0';
        *out_port = (int)port;
        return 0;
}
