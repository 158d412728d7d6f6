/* An address that a name led to, for the question to the policy. */
#ifndef PHOTON_AGENT_TOOLS_NET_ADDRESS_H
#define PHOTON_AGENT_TOOLS_NET_ADDRESS_H

#include <sys/socket.h>

struct err;
struct policy;

/* As numbers; an IPv4 address within an IPv6 one (mapped, or behind NAT64) is the IPv4 one. -E_INVAL: neither
 * of the two. */
int net_address_text(const struct sockaddr *a, char out[64]);
/* policy_address of it. -E_DENIED with the rule. */
int net_address_permit(const struct policy *p, const struct sockaddr *a, int port, struct err *e);

#endif
