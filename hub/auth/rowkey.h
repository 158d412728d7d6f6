/* DIR/rows.key: what rows that grant something are sealed with (hub/store/sqlite_seal.c). It is not in the
 * database, so whoever can only write there gives himself nothing; and it is not step.key, so that a step key
 * can be made anew without all users and tokens being refused.
 *
 * 64 hexadecimal digits, 0600. A key that is made waits as rows.key.new until the rows that were there before
 * are sealed with it: a start that is killed between the two goes on at the next one. Blocking. */
#ifndef PHOTON_HUB_AUTH_ROWKEY_H
#define PHOTON_HUB_AUTH_ROWKEY_H

#include <stdbool.h>
#include <stdint.h>

struct err;

#define ROW_KEY_LEN 32

/* *out_new: there was none, and row_key_keep is to be called when the rows are sealed. -E_DENIED: others may
 * read it; -E_CORRUPT: it is no key. Wipe out. */
int row_key_open(const char *dir, uint8_t out[ROW_KEY_LEN], bool *out_new, struct err *e);
int row_key_keep(const char *dir, struct err *e);

#endif
