/* Small string rules shared by everything: durations, sizes, globs, UTF-8,
 * base64, hex. Pure; any thread. */
#ifndef PHOTON_STR_H
#define PHOTON_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* "300ms", "10s", "5m", "1h", "2d", "1.5s", "1m5s", "0"; at most ten years;
 * what is finer than a millisecond rounds up. -E_INVAL otherwise. */
int str_parse_duration(const char *s, int64_t *out_ms);
void str_format_duration(int64_t ms, char out[32]); /* "1m5s", "300ms" */

/* "64KiB", "10MB", "123"; -E_INVAL otherwise or when over INT64_MAX. */
int str_parse_size(const char *s, int64_t *out_bytes);
void str_format_size(int64_t bytes, char out[32]);

int str_parse_i64(const char *s, int64_t min, int64_t max, int64_t *out);

/* '*' any run, '?' one byte; no classes. At most strlen(pattern) x strlen(s)
 * steps, whatever the pattern. */
bool str_glob(const char *pattern, const char *s);

/* RFC 3629: no surrogates, no overlong forms. NUL bytes are valid. */
bool str_is_utf8(const void *p, size_t n);

/* Length of the well-formed sequence that starts at p, 0 if malformed. n > 0. */
size_t str_utf8_len(const void *p, size_t n);

/* Copies, replacing each malformed sequence (and NUL, which would end the
 * text early) with U+FFFD; mem_free the result. NULL: no memory. */
char *str_utf8_lossy(const void *p, size_t n);

/* [A-Za-z0-9][A-Za-z0-9._-]{0,max-1}: agent names, step ids, labels' keys. */
bool str_is_name(const char *s, size_t max_len);

void str_hex(const void *p, size_t n, char *out);  /* out: 2n+1 bytes */
int str_unhex(const char *s, void *out, size_t n); /* exactly n bytes */

/* RFC 4648 section 5 (URL-safe, no padding) and section 4. Results mem_free'd;
 * decoded bytes are followed by a NUL that out_len does not count. Only the
 * canonical text is accepted: no white space, no stray bits. */
char *str_b64url(const void *p, size_t n);
int str_unb64url(const char *s, size_t n, uint8_t **out, size_t *out_len);
char *str_b64(const void *p, size_t n);
int str_unb64(const char *s, size_t n, uint8_t **out, size_t *out_len);

/* The candidate nearest to `word` by edit distance, or NULL if none is near:
 * for "did you mean". */
const char *str_nearest(const char *word, const char *const *candidates, size_t n);

bool str_ieq(const char *a, const char *b);                                   /* ASCII, case-insensitive */
char *str_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2))); /* mem_free; NULL: no memory */

#endif
