/* A small web server on the test's own loop: pages by path, and what was asked for. */
#ifndef PHOTON_TEST_WEB_SERVER_H
#define PHOTON_TEST_WEB_SERVER_H

#include <stddef.h>
#include <uv.h>

struct web_server {
        uv_tcp_t listener;
        int port;
        char asked[1 << 16]; /* request lines and Hosts, one a line */
        size_t n;
        int websockets;
};

extern struct web_server srv;

void web_open(uv_loop_t *loop);  /* any port of every address; does not keep the loop alive */
void web_close(uv_loop_t *loop); /* with its connections */

#endif
