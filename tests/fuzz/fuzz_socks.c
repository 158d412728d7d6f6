/* socks_read_*: no bytes may crash them; more bytes never make a whole request another one; a host
 * that is accepted is short, and made of what names and addresses are made of. */
#include "agent/tools/socks.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct socks_request a, b;
        enum socks_reply reply;
        int n = socks_read_greeting(data, size);

        if (n > 0 && ((size_t)n > size || n < 2))
                abort();
        memset(&a, 0, sizeof a);
        memset(&b, 0, sizeof b);
        n = socks_read_request(data, size, &a, &reply);
        if (n <= 0)
                return 0;
        if ((size_t)n > size || n > SOCKS_REQUEST_MAX || !*a.host || a.port < 0 || a.port > 65535)
                abort();
        if (strspn(a.host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._:") !=
            strlen(a.host))
                abort();
        if (strchr(a.host, ':') && !a.is_address)
                abort();
        for (int k = 0; k < n; k++)
                if (socks_read_request(data, (size_t)k, &b, &reply) > 0)
                        abort();
        if (socks_read_request(data, (size_t)n, &b, &reply) != n || strcmp(a.host, b.host) != 0 ||
            a.port != b.port)
                abort();
        return 0;
}
