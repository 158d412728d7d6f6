/* From a WfFormat 1.5 instance (https://wfcommons.org/format: what a scientific
 * workflow was and how its execution went) to a workflow of ours with the same
 * shape: each task sleeps for its measured runtime and writes its measured bytes.
 *
 * Pure but for notes in `notes`. One thread. */
#ifndef PHOTON_CLI_IMPORT_WFFORMAT_H
#define PHOTON_CLI_IMPORT_WFFORMAT_H

#include <stddef.h>
#include <stdint.h>

struct buf;
struct err;

#define WFFORMAT_VERSION   "1.5"
#define WFFORMAT_BYTES_MAX ((size_t)512 << 20)

/* What a step writes to stdout. FILES: the sizes of its outputFiles together, or its writtenBytes where the
 * instance says nothing of its files. WRITTEN: its writtenBytes, or else as FILES. */
enum wfformat_bytes { WFFORMAT_FILES, WFFORMAT_WRITTEN, WFFORMAT_NONE };

struct wfformat_options {
        double scale; /* of runtimes; >= 0, finite */
        enum wfformat_bytes bytes;
        int64_t max_bytes; /* per step; 0: no limit */
};

struct wfformat_notes {
        size_t tasks, needs;
        size_t no_runtime;   /* tasks that sleep 0 s because none was measured */
        size_t unknown_size; /* output files whose size is not stated */
        size_t one_sided;    /* dependencies that only one of the two tasks states */
        int64_t total_bytes;
        double total_s; /* scaled */
};

/* Appends the workflow as YAML. -E_INVAL with a sentence (and line and column where the JSON is
 * broken); -E_TOOBIG: more than the hub takes; -E_NOMEM. */
int wfformat_convert(const char *text, size_t n, const struct wfformat_options *o, struct buf *out,
                     struct wfformat_notes *notes, struct err *e);

#endif
