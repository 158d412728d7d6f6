#include "common/sdnotify.h"

#include "common/log.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void sd_notify_send(const char *state)
{
        const char *path = getenv("NOTIFY_SOCKET");
        struct sockaddr_un to = {.sun_family = AF_UNIX};
        size_t n;
        int fd;

        if (!path || (path[0] != '/' && path[0] != '@'))
                return;
        n = strlen(path);
        if (n < 2 || n >= sizeof to.sun_path)
                return;
        memcpy(to.sun_path, path, n);
        if (path[0] == '@')
                to.sun_path[0] = '\0'; /* abstract name space */
        fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&to,
                             (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)) < 0)
                log_warn("sdnotify", "systemd was not told", "state=%s error=%s", state, strerror(errno));
        if (fd >= 0)
                close(fd);
}
