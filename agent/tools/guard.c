#include "agent/tools/guard.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/policy.h"

static bool same_address(const struct sockaddr *a, const struct sockaddr *b)
{
        if (!b || a->sa_family != b->sa_family)
                return false;
        if (a->sa_family == AF_INET)
                return ((const struct sockaddr_in *)(const void *)a)->sin_addr.s_addr ==
                       ((const struct sockaddr_in *)(const void *)b)->sin_addr.s_addr;
        return memcmp(&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr,
                      &((const struct sockaddr_in6 *)(const void *)b)->sin6_addr,
                      sizeof(struct in6_addr)) == 0;
}

/* Loopback, or an address that one of this machine's interfaces has now. */
static bool is_this_machine(const struct sockaddr *a)
{
        const struct sockaddr_in *four = (const struct sockaddr_in *)(const void *)a;
        const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)(const void *)a;
        struct ifaddrs *all = NULL;
        bool own = false;

        if (a->sa_family == AF_UNIX)
                return true;
        if (a->sa_family == AF_INET && (ntohl(four->sin_addr.s_addr) >> 24) == 127)
                return true;
        if (a->sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&six->sin6_addr))
                return true;
        if ((a->sa_family != AF_INET && a->sa_family != AF_INET6) || getifaddrs(&all) != 0)
                return false;
        for (struct ifaddrs *i = all; i && !own; i = i->ifa_next)
                own = same_address(a, i->ifa_addr);
        freeifaddrs(all);
        return own;
}

curl_socket_t guard_open_socket(void *guard, curlsocktype purpose, struct curl_sockaddr *a)
{
        struct guard *g = guard;
        const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)(const void *)&a->addr;
        char ip[NI_MAXHOST] = "";

        (void)purpose;
        if (g->local_only && !is_this_machine(&a->addr)) {
                getnameinfo(&a->addr, a->addrlen, ip, sizeof ip, NULL, 0, NI_NUMERICHOST);
                err_set(&g->why, E_DENIED,
                        "the endpoint %s leads to %s, which is not this machine, and the request is "
                        "local-only: no connection was made",
                        g->who, ip);
                g->not_local = true;
                return CURL_SOCKET_BAD;
        }
        if (a->family == AF_UNIX)
                return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
        if (a->family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&six->sin6_addr))
                inet_ntop(AF_INET, &six->sin6_addr.s6_addr[12], ip, sizeof ip);
        else if (getnameinfo(&a->addr, a->addrlen, ip, sizeof ip, NULL, 0, NI_NUMERICHOST) != 0)
                return CURL_SOCKET_BAD;
        if (policy_address(g->policy, ip, g->port, &g->why) != 0) {
                g->denied = true;
                return CURL_SOCKET_BAD;
        }
        return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
}
