/* What is asked of sealed secrets. Rare, so each statement is made and thrown away; what goes is overwritten
 * in the database's pages (PRAGMA secure_delete), which costs too much to do always. */
#include "hub/store/store_impl.h"

#include <string.h>

static int bind_all(sqlite3_stmt *st, const struct row_secret_cut *r)
{
        int rc = sqlite3_bind_text(st, 1, r->project, -1, SQLITE_STATIC);

        if (rc == SQLITE_OK)
                rc = sqlite3_bind_text(st, 2, r->name, -1, SQLITE_STATIC);
        if (rc == SQLITE_OK && sqlite3_bind_parameter_count(st) >= 3)
                rc = sqlite3_bind_int64(st, 3, r->below);
        return rc;
}

static int run_once(struct db *d, const char *sql, const struct row_secret_cut *r)
{
        sqlite3_stmt *st = NULL;
        int rc = db_prepare(d->h, sql, &st);

        if (rc == SQLITE_OK)
                rc = bind_all(st, r);
        if (rc == SQLITE_OK && (rc = sqlite3_step(st)) == SQLITE_DONE)
                rc = SQLITE_OK;
        sqlite3_finalize(st);
        return rc;
}

static void secure(struct db *d, bool on)
{
        /* It answers with a row, which sqlite3_exec reads; should it not be heard, the deletion still counts.
         */
        sqlite3_exec(d->h, on ? "PRAGMA secure_delete=ON" : "PRAGMA secure_delete=OFF", NULL, NULL, NULL);
}

int secret_cut_rows(struct db *d, const struct rec *rec)
{
        struct row_secret_cut r;
        int rc;

        row_load(&store_secret_cut, rec, &r);
        secure(d, true);
        if (r.below) {
                rc = run_once(d, "DELETE FROM secret_versions WHERE project=?1 AND name=?2 AND version<?3",
                              &r);
        } else {
                rc = run_once(d, "DELETE FROM secret_versions WHERE project=?1 AND name=?2", &r);
                if (rc == SQLITE_OK)
                        rc = run_once(d, "DELETE FROM secrets WHERE project=?1 AND name=?2", &r);
        }
        secure(d, false);
        return rc;
}

int secret_reseal_row(struct db *d, const struct rec *rec)
{
        static const char sql[] =
                "UPDATE secret_versions SET key_id=?1,sealed=?2 WHERE project=?3 AND name=?4"
                " AND version=?5 AND key_id=?6";
        struct row_secret_reseal r;
        sqlite3_stmt *st = NULL;
        int rc = db_prepare(d->h, sql, &st);

        row_load(&store_secret_reseal, rec, &r);
        if (rc == SQLITE_OK) {
                sqlite3_bind_int64(st, 1, r.key_id);
                sqlite3_bind_blob64(st, 2, r.sealed, r.sealed_len, SQLITE_STATIC);
                sqlite3_bind_text(st, 3, r.project, -1, SQLITE_STATIC);
                sqlite3_bind_text(st, 4, r.name, -1, SQLITE_STATIC);
                sqlite3_bind_int64(st, 5, r.version);
                sqlite3_bind_int64(st, 6, r.from_key);
                secure(d, true);
                rc = sqlite3_step(st);
                rc = rc == SQLITE_DONE ? SQLITE_OK : rc;
                secure(d, false);
        }
        sqlite3_finalize(st);
        return rc;
}

int vault_key_drop_row(struct db *d, const struct rec *rec)
{
        static const char sql[] = "DELETE FROM vault_keys WHERE id=?1 AND NOT EXISTS"
                                  " (SELECT 1 FROM secret_versions WHERE key_id=?1)";
        sqlite3_stmt *st = NULL;
        int rc = db_prepare(d->h, sql, &st);
        int64_t id;

        memcpy(&id, rec + 1, sizeof id);
        if (rc == SQLITE_OK) {
                sqlite3_bind_int64(st, 1, id);
                secure(d, true);
                rc = sqlite3_step(st);
                rc = rc == SQLITE_DONE ? SQLITE_OK : rc;
                secure(d, false);
        }
        sqlite3_finalize(st);
        return rc;
}
