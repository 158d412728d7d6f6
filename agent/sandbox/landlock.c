#include "agent/sandbox/landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/err.h"

#define CALL_CREATE 444
#define CALL_ADD    445

#define CREATE_VERSION 1u
#define RULE_PATH      1
#define RULE_PORT      2

/* Rights on files, as linux/landlock.h numbers them. */
#define FS_EXECUTE   (1ull << 0)
#define FS_WRITE     (1ull << 1)
#define FS_READ      (1ull << 2)
#define FS_READ_DIR  (1ull << 3)
#define FS_ALL_ABI1  ((1ull << 13) - 1)
#define FS_REFER     (1ull << 13) /* ABI 2 */
#define FS_TRUNCATE  (1ull << 14) /* ABI 3 */
#define NET_BIND     (1ull << 0)  /* ABI 4 */
#define NET_CONNECT  (1ull << 1)
#define SCOPE_SOCKET (1ull << 0) /* ABI 6: abstract Unix sockets */
#define SCOPE_SIGNAL (1ull << 1)

struct ruleset_attr {
        uint64_t fs, net, scoped;
};
struct path_attr {
        uint64_t access;
        int32_t fd;
} __attribute__((packed));
struct port_attr {
        uint64_t access, port;
};

/* Without them hardly a program runs; none of them keeps anything. */
static const char *const devices[] = {"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom",
                                      "/dev/tty",  "/dev/ptmx", "/dev/pts",  "/dev/shm"};

int landlock_abi(void)
{
        long rc = syscall(CALL_CREATE, NULL, 0, CREATE_VERSION);

        return rc > 0 ? (int)rc : 0;
}

void landlock_rights(int abi, bool network, struct landlock_rights *out)
{
        memset(out, 0, sizeof *out);
        if (abi < 1)
                return;
        out->files = FS_ALL_ABI1 | (abi >= 2 ? FS_REFER : 0) | (abi >= 3 ? FS_TRUNCATE : 0);
        out->read = FS_EXECUTE | FS_READ | FS_READ_DIR;
        out->write = out->files;
        if (network && abi >= LANDLOCK_ABI_NETWORK)
                out->net = NET_BIND | NET_CONNECT;
        if (abi >= LANDLOCK_ABI_SIGNALS)
                out->scoped = SCOPE_SIGNAL | (network ? SCOPE_SOCKET : 0);
}

static int refused(struct err *e, const char *what)
{
        return err_set(e, err_from_errno(errno), "the kernel refuses a Landlock rule for %s: %s", what,
                       strerror(errno));
}

/* A file may not have rights of folders. */
static int add_path(int set, const char *path, uint64_t rights, struct err *e)
{
        static const uint64_t of_files = FS_EXECUTE | FS_WRITE | FS_READ | FS_TRUNCATE;
        struct path_attr a = {.access = rights, .fd = open(path, O_PATH | O_CLOEXEC)};
        struct stat st;
        int rc = 0;

        if (a.fd < 0)
                return 0;
        if (fstat(a.fd, &st) == 0 && !S_ISDIR(st.st_mode))
                a.access &= of_files;
        if (syscall(CALL_ADD, set, RULE_PATH, &a, 0))
                rc = refused(e, path);
        close(a.fd);
        return rc;
}

static int add_files(int set, const struct sandbox_rules *r, const struct landlock_rights *have,
                     const char *scratch, struct err *e)
{
        uint64_t device = have->files & (FS_READ | FS_READ_DIR | FS_WRITE | FS_TRUNCATE);
        int rc = 0;

        for (size_t i = 0; i < r->n_read && !rc; i++)
                rc = add_path(set, r->read[i], have->read, e);
        for (size_t i = 0; i < r->n_write && !rc; i++)
                rc = add_path(set, r->write[i], have->write, e);
        for (size_t i = 0; i < sizeof devices / sizeof *devices && !rc; i++)
                rc = add_path(set, devices[i], strcmp(devices[i], "/dev/shm") == 0 ? have->write : device, e);
        /* A program writes its own /proc (user namespaces, oom_score_adj). For root that is also the
         * machine's. */
        if (!rc && (geteuid() != 0 || r->user))
                rc = add_path(set, "/proc", device, e);
        if (!rc && scratch)
                rc = add_path(set, scratch, have->write, e);
        return rc;
}

int landlock_ruleset(const struct sandbox_rules *r, const char *scratch, int *out_fd, struct err *e)
{
        struct landlock_rights have;
        struct ruleset_attr a;
        int abi = landlock_abi(), rc, set;
        /* What an older kernel does not know must not be in the structure, not even as zero. */
        size_t size = abi >= LANDLOCK_ABI_SIGNALS   ? sizeof a
                      : abi >= LANDLOCK_ABI_NETWORK ? 2 * sizeof(uint64_t)
                                                    : sizeof(uint64_t);

        landlock_rights(abi, r->network != SANDBOX_NET_ANY, &have);
        a = (struct ruleset_attr){.fs = have.files, .net = have.net, .scoped = have.scoped};
        set = abi > 0 ? (int)syscall(CALL_CREATE, &a, size, 0) : -1;
        if (set < 0)
                return refused(e, "this agent");
        rc = add_files(set, r, &have, scratch, e);
        for (size_t i = 0; i < r->n_ports && !rc && have.net; i++) {
                struct port_attr p = {.access = NET_CONNECT, .port = r->ports[i]};

                if (syscall(CALL_ADD, set, RULE_PORT, &p, 0))
                        rc = refused(e, "a port");
        }
        if (rc) {
                close(set);
                return rc;
        }
        *out_fd = set;
        return 0;
}
