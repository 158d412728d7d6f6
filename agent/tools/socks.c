#include "agent/tools/socks.h"

#include <arpa/inet.h>
#include <string.h>

#include "common/err.h"

#define VERSION      5
#define NO_AUTH      0
#define CMD_CONNECT  1
#define ADDRESS_IPV4 1
#define ADDRESS_NAME 3
#define ADDRESS_IPV6 4

int socks_read_greeting(const uint8_t *p, size_t n)
{
        if (n >= 1 && p[0] != VERSION)
                return -E_PROTO;
        if (n < 2 || n < 2 + (size_t)p[1])
                return 0;
        return memchr(p + 2, NO_AUTH, p[1]) ? 2 + p[1] : -E_NOTSUP;
}

/* Letters, digits and what else names of hosts are made of: nothing that a rule could be fooled with. */
static bool is_host(const uint8_t *p, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (!((p[i] >= 'a' && p[i] <= 'z') || (p[i] >= 'A' && p[i] <= 'Z') ||
                      (p[i] >= '0' && p[i] <= '9') || p[i] == '-' || p[i] == '.' || p[i] == '_'))
                        return false;
        return n > 0;
}

int socks_read_request(const uint8_t *p, size_t n, struct socks_request *out, enum socks_reply *reply)
{
        size_t len, at = 4;

        *reply = SOCKS_FAILED;
        if (n >= 1 && p[0] != VERSION)
                return -E_PROTO;
        if (n < 5)
                return 0;
        if (p[1] != CMD_CONNECT) {
                *reply = SOCKS_NO_COMMAND;
                return -E_NOTSUP;
        }
        if (p[3] == ADDRESS_IPV4)
                len = 4;
        else if (p[3] == ADDRESS_IPV6)
                len = 16;
        else if (p[3] == ADDRESS_NAME)
                len = p[at++];
        else {
                *reply = SOCKS_NO_ADDRESS_TYPE;
                return -E_NOTSUP;
        }
        if (n < at + len + 2)
                return 0;
        out->is_address = p[3] != ADDRESS_NAME;
        if (!out->is_address) {
                uint8_t tmp[16];

                memcpy(out->host, p + at, len);
                out->host[len] = '\0';
                out->is_address = strlen(out->host) == len && (inet_pton(AF_INET, out->host, tmp) == 1 ||
                                                               inet_pton(AF_INET6, out->host, tmp) == 1);
                if (!out->is_address && !is_host(p + at, len))
                        return -E_PROTO;
        } else {
                inet_ntop(len == 4 ? AF_INET : AF_INET6, p + at, out->host, sizeof out->host);
        }
        out->port = p[at + len] << 8 | p[at + len + 1];
        return (int)(at + len + 2);
}

void socks_write_reply(enum socks_reply r, uint8_t out[10])
{
        memset(out, 0, 10);
        out[0] = VERSION;
        out[1] = (uint8_t)r;
        out[3] = ADDRESS_IPV4;
}
