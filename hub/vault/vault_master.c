/* Where the master key comes from: a file of its own, or a systemd credential. */
#include "hub/vault/vault_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/str.h"

#define NEXT_SUFFIX  ".new"
#define KEY_FILE_MAX 256

static char *credential_path(void)
{
        const char *dir = getenv("CREDENTIALS_DIRECTORY");

        return dir && *dir ? path_join(dir, VAULT_CREDENTIAL) : NULL;
}

bool vault_has_credential(void)
{
        char *path = credential_path();
        bool yes = path && access(path, R_OK) == 0;

        mem_free(path);
        return yes;
}

char *vault_key_path(const struct vault *v)
{
        if (v->key_file)
                return mem_strdup(v->key_file);
        return v->source && v->source[0] ? mem_strdup(v->source) : path_join(v->dir, VAULT_FILE);
}

static int read_key(const char *path, bool strict, uint8_t out[AEAD_KEY], struct err *e)
{
        struct stat st;
        char *text = NULL;
        size_t n = 0;
        int rc;

        if (stat(path, &st))
                return err_set(e, err_from_errno(errno), "the vault's master key %s cannot be read: %s", path,
                               strerror(errno));
        if (strict && (st.st_mode & 077))
                return err_set(e, E_DENIED, "the vault's master key %s may be read by others: chmod 600 %s",
                               path, path);
        rc = file_read(path, KEY_FILE_MAX, &text, &n, e);
        if (rc)
                return rc;
        if (record_read_master(text, n, out))
                rc = err_set(e, E_INVAL,
                             "%s is no master key: it must hold 64 hexadecimal digits, or 32 bytes", path);
        mem_wipe(text, n);
        mem_free(text);
        return rc;
}

static bool fits(const struct vault *v, const uint8_t key[AEAD_KEY])
{
        char id[MASTER_ID_LEN];

        record_master_id(key, id);
        return strcmp(id, v->master_id) == 0;
}

/* A hub that was killed between the commit that wrapped the data keys anew and the file's change of name has
 * the right key in the file beside. */
static int read_next(const struct vault *v, const char *path, uint8_t out[AEAD_KEY])
{
        char *next = str_printf("%s" NEXT_SUFFIX, path);
        struct err e = {0};
        int rc = next ? read_key(next, true, out, &e) : -E_NOMEM;

        if (!rc && v->master_id[0] && !fits(v, out)) {
                /* Of a change that was never committed. */
                mem_wipe(out, AEAD_KEY);
                rc = -E_NOENT;
        }
        mem_free(next);
        return rc;
}

static void drop_next(const char *path)
{
        char *next = str_printf("%s" NEXT_SUFFIX, path);

        if (next)
                (void)unlink(next); /* mostly absent */
        mem_free(next);
}

static int read_file(struct vault *v, const char *path, uint8_t out[AEAD_KEY], struct err *e)
{
        int rc = read_key(path, true, out, e);

        if (!v->master_id[0])
                return rc; /* the vault's first */
        if (!rc && fits(v, out)) {
                drop_next(path);
                return 0;
        }
        if (read_next(v, path, out) == 0) {
                *e = (struct err){0};
                log_info("vault", "a change of the master key that was interrupted is brought to its end",
                         "file=%s", path);
                return vault_next_becomes_current(path, e);
        }
        return rc ? rc
                  : err_set(e, E_DENIED,
                            "the vault is locked: %s is the master key of another vault. Bring back the one "
                            "that "
                            "belongs to this database, then: photon vault unlock",
                            path);
}

void vault_warn_old_file(const struct vault *v)
{
        char *path = vault_key_path(v);

        if (path && access(path, F_OK) == 0)
                log_warn("vault",
                         "the vault has a passphrase, and an older master key still lies here: remove it",
                         "file=%s", path);
        mem_free(path);
}

int vault_read_master(struct vault *v, uint8_t out[AEAD_KEY], struct err *e)
{
        char *path;
        int rc;

        if (v->kind == VAULT_KEY_CREDENTIAL) {
                path = credential_path();
                rc = path ? read_key(path, false, out, e)
                          : err_set(e, E_UNAVAIL,
                                    "the vault's master key is the systemd credential " VAULT_CREDENTIAL
                                    ", and this hub was not given one (LoadCredential=)");
        } else {
                path = vault_key_path(v);
                rc = path ? read_file(v, path, out, e) : err_set(e, E_NOMEM, "out of memory");
        }
        mem_free(path);
        if (rc)
                mem_wipe(out, AEAD_KEY);
        return rc;
}

int vault_write_next(struct vault *v, const char *path, const uint8_t key[AEAD_KEY], struct err *e)
{
        char hex[2 * AEAD_KEY + 2], *next = str_printf("%s" NEXT_SUFFIX, path);
        int rc;

        (void)v;
        str_hex(key, AEAD_KEY, hex);
        hex[2 * AEAD_KEY] = '\n';
        rc = next ? file_write_atomic(next, hex, 2 * AEAD_KEY + 1, 0600, e)
                  : err_set(e, E_NOMEM, "out of memory");
        mem_wipe(hex, sizeof hex);
        mem_free(next);
        return rc;
}

static int sync_folder_of(const char *path)
{
        char *dir = mem_strdup(path), *slash = dir ? strrchr(dir, '/') : NULL;
        int fd, rc = 0;

        if (!dir)
                return -E_NOMEM;
        if (slash)
                *(slash == dir ? slash + 1 : slash) = '\0';
        fd = open(slash ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || fsync(fd))
                rc = -err_from_errno(errno);
        if (fd >= 0)
                close(fd);
        mem_free(dir);
        return rc;
}

int vault_next_becomes_current(const char *path, struct err *e)
{
        char *next = str_printf("%s" NEXT_SUFFIX, path);
        int rc = next ? 0 : -E_NOMEM;

        if (!rc && rename(next, path))
                rc = -err_from_errno(errno);
        if (!rc)
                rc = sync_folder_of(path);
        mem_free(next);
        return rc ? err_set(e, -rc, "the vault's new master key cannot take the place of %s: %s", path,
                            err_name(rc))
                  : 0;
}
