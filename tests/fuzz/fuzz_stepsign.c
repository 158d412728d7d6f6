/* The members of a HubMessage as they come from the wire: every start that is found lies within the message,
 * and what protobuf makes of the same bytes has as many. */
#include <stdint.h>
#include <stdlib.h>

#include "common/mac.h"
#include "common/stepsign.h"
#include "photon/v1/agent.pb-c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static const uint8_t key[MAC_KEY_LEN];
        static struct mac *mac;
        const uint8_t *p = data, *v;
        size_t n = size, vn, found = 0;
        Photon__V1__HubMessage *m;
        int rc;

        if (!mac && !(mac = mac_create(key)))
                abort();
        while ((rc = stepsign_next(&p, &n, &v, &vn)) == 1) {
                if (v < data || v + vn > data + size)
                        abort();
                (void)stepsign_holds(mac, v, vn);
                found++;
        }
        m = photon__v1__hub_message__unpack(NULL, size, data);
        if (m && rc == 0 && m->n_start != found)
                abort();
        if (m)
                photon__v1__hub_message__free_unpacked(m, NULL);
        return 0;
}
