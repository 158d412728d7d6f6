#include "agent/datadir.h"

#include "agent/conf.h"
#include "agent/policy.h"
#include "common/err.h"
#include "common/file.h"
#include "common/log.h"
#include "common/mem.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int datadir_open(const char *path, int *out_lock, struct err *e)
{
        struct err why = {0};
        char *lock;
        int rc = file_mkdir_private(path, &why);
        struct stat st;

        /* Root may use everybody's files, but whoever owns this folder could swap hub and policy for his own.
         */
        if (!rc && !stat(path, &st) && st.st_uid != geteuid())
                rc = err_set(&why, E_DENIED,
                             "%s belongs to user %u; run photon-agent as that user, or chown it", path,
                             (unsigned)st.st_uid);
        if (rc)
                return err_set(e, -rc, "the data folder cannot be used: %s (say --data DIR for another)",
                               why.msg);
        lock = path_join(path, "lock");
        if (!lock)
                return err_set(e, E_NOMEM, "no memory");
        rc = file_lock(lock, out_lock, &why);
        mem_free(lock);
        if (rc == -E_EXIST)
                return err_set(e, E_EXIST,
                               "an agent is already running with the data folder %s; stop it first, or say "
                               "--data DIR",
                               path);
        return rc ? err_set(e, -rc, "the data folder cannot be used: %s", why.msg) : 0;
}

int datadir_policy(const struct agent_conf *conf, bool create, struct policy **out, char **out_path,
                   struct err *e)
{
        char *path = conf->policy ? mem_strdup(conf->policy) : path_join(conf->data, "policy.yaml");
        const char *text = policy_default_text();
        struct policy *p = NULL;
        int rc = 0;

        if (!path)
                return err_set(e, E_NOMEM, "no memory for the policy");
        if (access(path, F_OK)) {
                if (conf->policy)
                        rc = err_set(e, err_from_errno(errno), "the policy file %s cannot be read: %s", path,
                                     strerror(errno));
                else if (create)
                        rc = file_write_atomic(path, text, strlen(text), 0600, e);
        }
        if (!rc)
                rc = policy_load(path, &p, e);
        /* No file tool reads the keys, or writes itself a wider policy. */
        if (!rc && (policy_protect(p, conf->data) || policy_protect(p, path)))
                rc = err_set(e, E_NOMEM, "no memory for the policy");
        if (rc) {
                policy_free(p);
                mem_free(path);
                return rc;
        }
        *out = p;
        *out_path = path;
        return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
        (void)st;
        (void)type;
        if (ftw->level > 0 && remove(path))
                log_warn("agent", "cannot delete what a call left behind", "path=%s error=%s", path,
                         strerror(errno));
        return 0;
}

int datadir_fresh(const char *data, const char *name, char **out_path, struct err *e)
{
        char *path = path_join(data, name), *real = NULL;
        int rc = path ? file_mkdir_private(path, e) : err_set(e, E_NOMEM, "no memory");

        /* Commands start in other folders: what they are told must not be relative. */
        if (!rc && !(real = realpath(path, NULL)))
                rc = err_set(e, err_from_errno(errno), "the folder %s cannot be used: %s", path,
                             strerror(errno));
        mem_free(path);
        path = rc ? NULL : mem_strdup(real);
        free(real);
        if (!rc && !path)
                rc = err_set(e, E_NOMEM, "no memory");
        if (rc)
                return rc;
        nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
        *out_path = path;
        return 0;
}
