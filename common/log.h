/* Structured log lines on stderr: `time level area message k=v ...`, or JSON.
 * Values are escaped; whoever handles an error logs it, once. Any thread. */
#ifndef PHOTON_LOG_H
#define PHOTON_LOG_H

#include <stdbool.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

void log_setup(enum log_level min, bool json);
int log_level_parse(const char *s, enum log_level *out);

/* log_info("session", "agent connected", "agent=%s addr=%s", name, addr)
 * `fmt` formats space-separated key=value pairs; control characters are
 * escaped, so a peer cannot forge a line. */
void log_write(enum log_level l, const char *area, const char *msg, const char *fmt, ...)
        __attribute__((format(printf, 4, 5)));

#define log_debug(area, msg, ...) log_write(LOG_DEBUG, area, msg, __VA_ARGS__)
#define log_info(area, msg, ...)  log_write(LOG_INFO, area, msg, __VA_ARGS__)
#define log_warn(area, msg, ...)  log_write(LOG_WARN, area, msg, __VA_ARGS__)
#define log_error(area, msg, ...) log_write(LOG_ERROR, area, msg, __VA_ARGS__)

#endif
