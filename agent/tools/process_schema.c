/* The schemas of process.exec, apart because they are long. */
#include "agent/tools/process.h"

const char process_input_schema[] =
        "{\"type\":\"object\",\"additionalProperties\":false,"
        "\"anyOf\":[{\"required\":[\"argv\"]},{\"required\":[\"shell\"]}],\"properties\":{"
        "\"argv\":{\"type\":\"array\",\"minItems\":1,\"maxItems\":65536,\"items\":{\"type\":\"string\"},"
        "\"description\":\"program and arguments\"},"
        "\"shell\":{\"type\":\"string\",\"description\":\"text for the shell, instead of argv\"},"
        "\"shell_path\":{\"type\":\"string\",\"minLength\":1,\"description\":\"/bin/sh if left out; called "
        "with -ec TEXT\"},"
        "\"stdin\":{\"type\":\"string\"},"
        "\"cwd\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":4096,\"description\":\"the home folder "
        "of the agent's user if left out\"},"
        "\"env\":{\"type\":\"object\",\"additionalProperties\":{\"anyOf\":[{\"type\":\"string\"},{\"type\":"
        "\"number\"},{\"type\":\"boolean\"}]},"
        "\"description\":\"added to what the agent's policy passes on\"},"
        "\"timeout\":{\"type\":\"string\",\"description\":\"e.g. 90s; the step's own timeout holds "
        "besides\"}}}";
const char process_output_schema[] =
        "{\"type\":\"object\",\"required\":[\"exit_code\",\"stdout\",\"stderr_tail\",\"stdout_truncated\"],"
        "\"additionalProperties\":{\"type\":\"string\",\"description\":\"what the command wrote as "
        "NAME=VALUE to the file $PHOTON_OUTPUT\"},"
        "\"properties\":{\"exit_code\":{\"type\":\"integer\",\"description\":\"128 + signal when a signal "
        "ended it\"},"
        "\"signal\":{\"type\":\"string\",\"description\":\"e.g. SIGKILL\"},"
        "\"stdout\":{\"type\":\"string\",\"description\":\"its last 64 KiB; what is not UTF-8 is replaced\"},"
        "\"stdout_truncated\":{\"type\":\"boolean\",\"description\":\"there was more than 64 KiB; the log "
        "has all of it\"},"
        "\"stderr_tail\":{\"type\":\"string\",\"description\":\"its last 4 KiB\"}}}";
