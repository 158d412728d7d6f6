/* Unpacking protobuf messages from strangers. protobuf-c takes any nesting, any
 * number of parts and any bytes in a string; here the bytes are walked first. */
#include <string.h>

#include "common/rpc.h"
#include "common/str.h"

#define DEPTH_MAX 32
#define PARTS_MAX                                                                                            \
        200000 /* sub-messages and list items: two bytes on the wire can cost a hundred in memory            \
                */

struct walk {
        size_t parts;
};

static bool read_varint(const uint8_t **p, const uint8_t *end, uint64_t *out)
{
        uint64_t v = 0;

        for (int shift = 0; shift < 70 && *p < end; shift += 7) {
                uint8_t b = *(*p)++;

                v |= (uint64_t)(b & 0x7f) << (shift < 63 ? shift : 63);
                if (!(b & 0x80)) {
                        *out = v;
                        return true;
                }
        }
        return false;
}

static bool walk(struct walk *w, const ProtobufCMessageDescriptor *d, const uint8_t *p, const uint8_t *end,
                 int depth);

static bool walk_bytes(struct walk *w, const ProtobufCFieldDescriptor *f, const uint8_t *p, size_t n,
                       int depth)
{
        if (!f)
                return true; /* from a newer peer */
        switch (f->type) {
        case PROTOBUF_C_TYPE_STRING:
                /* In C a NUL would hide what follows it. */
                return !memchr(p, '\0', n) && str_is_utf8(p, n);
        case PROTOBUF_C_TYPE_MESSAGE:
                return walk(w, f->descriptor, p, p + n, depth + 1);
        default:
                return true;
        }
}

static bool walk_field(struct walk *w, const ProtobufCMessageDescriptor *d, const uint8_t **p,
                       const uint8_t *end, int depth)
{
        const ProtobufCFieldDescriptor *f;
        uint64_t tag, n;

        if (!read_varint(p, end, &tag) || tag >> 3 == 0 || tag >> 3 > 0x1fffffff)
                return false;
        f = protobuf_c_message_descriptor_get_field(d, (unsigned)(tag >> 3));
        if (f && (f->label == PROTOBUF_C_LABEL_REPEATED || f->type == PROTOBUF_C_TYPE_MESSAGE) &&
            ++w->parts > PARTS_MAX)
                return false;
        switch (tag & 7) {
        case 0:
                return read_varint(p, end, &n);
        case 1:
                n = 8;
                break;
        case 2:
                if (!read_varint(p, end, &n) || n > (size_t)(end - *p) ||
                    !walk_bytes(w, f, *p, (size_t)n, depth))
                        return false;
                break;
        case 5:
                n = 4;
                break;
        default:
                return false; /* groups are not of proto3 */
        }
        if (n > (size_t)(end - *p))
                return false;
        *p += n;
        return true;
}

static bool walk(struct walk *w, const ProtobufCMessageDescriptor *d, const uint8_t *p, const uint8_t *end,
                 int depth)
{
        if (depth > DEPTH_MAX)
                return false;
        while (p < end) {
                if (!walk_field(w, d, &p, end, depth))
                        return false;
        }
        return true;
}

ProtobufCMessage *rpc_unpack(const ProtobufCMessageDescriptor *d, const uint8_t *p, size_t n)
{
        struct walk w = {0};
        static const uint8_t nothing[1];

        if (n == 0)
                p = nothing;
        if (!walk(&w, d, p, p + n, 0))
                return NULL;
        return protobuf_c_message_unpack(d, NULL, n, p);
}
