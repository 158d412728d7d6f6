#include "agent/tools/net_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "agent/policy.h"
#include "common/err.h"

/* ::ffff:a.b.c.d, and a.b.c.d behind a NAT64 gateway (RFC 6052). */
static bool holds_ipv4(const struct in6_addr *six)
{
        static const uint8_t nat64[12] = {0, 0x64, 0xff, 0x9b};

        return IN6_IS_ADDR_V4MAPPED(six) || memcmp(six->s6_addr, nat64, sizeof nat64) == 0;
}

int net_address_text(const struct sockaddr *a, char out[64])
{
        const struct in6_addr *six = &((const struct sockaddr_in6 *)(const void *)a)->sin6_addr;
        const char *s = NULL;

        if (a->sa_family == AF_INET)
                s = inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)a)->sin_addr, out, 64);
        else if (a->sa_family == AF_INET6 && holds_ipv4(six))
                s = inet_ntop(AF_INET, &six->s6_addr[12], out, 64);
        else if (a->sa_family == AF_INET6)
                s = inet_ntop(AF_INET6, six, out, 64);
        return s ? 0 : -E_INVAL;
}

int net_address_permit(const struct policy *p, const struct sockaddr *a, int port, struct err *e)
{
        char ip[64];

        if (net_address_text(a, ip))
                return err_set(e, E_DENIED, "an address that is neither IPv4 nor IPv6");
        return policy_address(p, ip, port, e);
}
