#include "agent/tools/peer_uid.h"

#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "common/err.h"

struct question {
        struct nlmsghdr h;
        struct inet_diag_req_v2 r;
};

static int ask(const struct question *q, uid_t *out)
{
        struct timeval patience = {.tv_sec = 1};
        union {
                struct nlmsghdr h;
                char bytes[4096];
        } a;
        const struct inet_diag_msg *m = NLMSG_DATA(&a.h);
        int nl = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG), rc = -E_NOTSUP;
        ssize_t n;

        if (nl < 0)
                return -E_NOTSUP;
        setsockopt(nl, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        if (send(nl, q, sizeof *q, 0) == (ssize_t)sizeof *q) {
                n = recv(nl, &a, sizeof a, 0);
                if (n >= (ssize_t)NLMSG_LENGTH(sizeof *m) && a.h.nlmsg_type == SOCK_DIAG_BY_FAMILY) {
                        *out = m->idiag_uid;
                        rc = 0;
                } else if (n >= (ssize_t)NLMSG_LENGTH(sizeof(struct nlmsgerr)) &&
                           a.h.nlmsg_type == NLMSG_ERROR &&
                           ((const struct nlmsgerr *)NLMSG_DATA(&a.h))->error == -ENOENT) {
                        rc = -E_NOENT;
                }
        }
        close(nl);
        return rc;
}

int peer_uid(int fd, uid_t *out)
{
        struct sockaddr_in here, there;
        socklen_t n = sizeof here, k = sizeof there;
        struct question q = {
                .h = {.nlmsg_len = sizeof q, .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST},
                .r = {.sdiag_family = AF_INET, .sdiag_protocol = IPPROTO_TCP, .idiag_states = ~0u}};

        if (getsockname(fd, (struct sockaddr *)&here, &n) || getpeername(fd, (struct sockaddr *)&there, &k) ||
            here.sin_family != AF_INET)
                return -E_NOENT;
        /* The other end is the socket whose own address is our peer's. */
        q.r.id.idiag_sport = there.sin_port;
        q.r.id.idiag_dport = here.sin_port;
        q.r.id.idiag_src[0] = there.sin_addr.s_addr;
        q.r.id.idiag_dst[0] = here.sin_addr.s_addr;
        q.r.id.idiag_cookie[0] = q.r.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
        return ask(&q, out);
}
