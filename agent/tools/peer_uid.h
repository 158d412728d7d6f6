/* Which user holds the other end of a TCP connection within this machine: what
 * listens on loopback can be reached by every user of it. */
#ifndef PHOTON_AGENT_TOOLS_PEER_UID_H
#define PHOTON_AGENT_TOOLS_PEER_UID_H

#include <sys/types.h>

/* fd: an accepted TCP connection over 127.0.0.1. -E_NOENT: nobody's any more; -E_NOTSUP: this kernel does not
 * tell (NETLINK_SOCK_DIAG). Blocks for one exchange with the kernel. Any thread. */
int peer_uid(int fd, uid_t *out);

#endif
