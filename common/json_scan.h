/* A strict RFC 8259 tokenizer that knows where each token stands. Under
 * json_parse (which lets cJSON build the tree) and doc_parse; others want
 * those. Pure; any thread. */
#ifndef PHOTON_JSON_SCAN_H
#define PHOTON_JSON_SCAN_H

#include <stddef.h>

struct err;

enum json_tok {
        JSON_TOK_OBJ,
        JSON_TOK_OBJ_END,
        JSON_TOK_ARR,
        JSON_TOK_ARR_END,
        JSON_TOK_KEY,
        JSON_TOK_STR,
        JSON_TOK_NUM,
        JSON_TOK_TRUE,
        JSON_TOK_FALSE,
        JSON_TOK_NULL,
};

/* text, len: a slice of the input; KEY and STR: between the quotes, escapes
 * not yet undone. line, col: 1-based, columns count characters. */
struct json_token {
        enum json_tok kind;
        const char *text;
        size_t len;
        int line, col;
};

/* Checks the whole text, which must be valid UTF-8 (str_is_utf8), and calls
 * `on` (NULL: only check) for each token; a code from `on` ends the scan and
 * is returned. Depth at most JSON_DEPTH_MAX, numbers finite and at most 63
 * characters, no \u0000, no lone surrogate. -E_INVAL with line and column. */
int json_scan(const char *text, size_t len, int (*on)(void *ctx, const struct json_token *t), void *ctx,
              struct err *e);

/* How many bytes at s need no second look inside of a JSON string: ASCII from the space on, but the quote and
 * the backslash. Eight at a time. */
size_t json_plain_len(const char *s, size_t n);

/* Undoes the escapes of a KEY or STR; out: n + 1 bytes. Returns the length. */
size_t json_unescape(const char *raw, size_t n, char *out);

#endif
