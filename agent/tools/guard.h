/* The last word on a connection that libcurl wants to make: asked when the
 * socket is made, after names were resolved and whatever they were resolved to.
 * Loop thread. */
#ifndef PHOTON_AGENT_TOOLS_GUARD_H
#define PHOTON_AGENT_TOOLS_GUARD_H

#include <curl/curl.h>
#include <stdbool.h>

#include "common/err.h"

struct policy;

struct guard {
        const struct policy *policy;
        const char *who; /* the endpoint's name, for people */
        int port;
        bool local_only;
        bool not_local, denied; /* what it said no to, and why */
        struct err why;
};

/* CURLOPT_OPENSOCKETFUNCTION, with a struct guard as its data. */
curl_socket_t guard_open_socket(void *guard, curlsocktype purpose, struct curl_sockaddr *a);

#endif
