/* RPC frames as bytes: eight bytes of header, then the payload. Pure; see
 * proto/PROTOCOL.md for the pictures. */
#ifndef PHOTON_RPC_FRAME_H
#define PHOTON_RPC_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RPC_FRAME_HEAD 8

/* Numbers are on the wire: never change one. */
enum rpc_frame_type {
        RPC_PREFACE = 1,
        RPC_HEADERS = 2,
        RPC_DATA = 3,
        RPC_END = 4,
        RPC_STATUS = 5,
        RPC_CANCEL = 6,
        RPC_CREDIT = 7,
        RPC_PING = 8,
        RPC_PONG = 9,
        RPC_GOODBYE = 10,
};

#define RPC_FLAG_MORE     0x01 /* DATA: the message goes on in the stream's next DATA frame */
#define RPC_FLAG_OPTIONAL 0x80 /* whoever does not know the type may ignore the frame */

struct rpc_frame {
        uint8_t type, flags;
        uint32_t stream;
        const uint8_t *p; /* lent */
        size_t n;
        bool ignore; /* unknown, and optional */
};

void rpc_frame_head(uint8_t out[RPC_FRAME_HEAD], uint8_t type, uint8_t flags, uint32_t stream);

/* Checks all that one frame shows by itself: length, reserved bits, a stream
 * where one belongs. -E_PROTO, with a sentence in *why. */
int rpc_frame_decode(const uint8_t *p, size_t n, struct rpc_frame *out, const char **why);

#endif
