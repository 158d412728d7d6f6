/* The version that every binary states. */
#ifndef PHOTON_VERSION_H
#define PHOTON_VERSION_H

#define PHOTON_VERSION "0.1.0"

/* Wire protocol, see proto/PROTOCOL.md. A peer outside [MIN, MAX] is refused. */
#define PHOTON_PROTO_MIN 1
#define PHOTON_PROTO_MAX 1

#endif
