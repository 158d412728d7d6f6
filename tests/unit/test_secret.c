#include "tests/lib/test.h"

#include "common/secret.h"
#include "common/str.h"

static void check_hex(const uint8_t *p, const char *want)
{
        char text[2 * SHA256_LEN + 1];

        str_hex(p, SHA256_LEN, text);
        CHECK_STR(text, want);
}

/* FIPS 180-4 and RFC 4231 test cases. */
TEST(secret, hash_vectors)
{
        uint8_t out[SHA256_LEN], key[131];

        secret_sha256("abc", 3, out);
        check_hex(out, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        secret_sha256("", 0, out);
        check_hex(out, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        secret_hmac("Jefe", 4, "what do ya want for nothing?", 28, out);
        check_hex(out, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        memset(key, 0xaa, sizeof key);
        secret_hmac(key, sizeof key, "Test Using Larger Than Block-Size Key - Hash Key First", 54, out);
        check_hex(out, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

TEST(secret, proof_needs_the_secret_and_the_transcript)
{
        uint8_t stored[SHA256_LEN], proof[SHA256_LEN], other[SHA256_LEN];

        secret_stored_key("s3cret", 6, stored);
        secret_proof("s3cret", 6, "transcript", 10, proof);
        CHECK(secret_proof_ok(stored, "transcript", 10, proof));
        CHECK(!secret_proof_ok(stored, "transcripT", 10, proof));
        secret_proof("s3creT", 6, "transcript", 10, other);
        CHECK(!secret_proof_ok(stored, "transcript", 10, other));
        proof[31] ^= 1;
        CHECK(!secret_proof_ok(stored, "transcript", 10, proof));
        /* What the hub stores does not make a proof. */
        secret_proof(stored, SHA256_LEN, "transcript", 10, other);
        CHECK(!secret_proof_ok(stored, "transcript", 10, other));
}

TEST(secret, equal)
{
        CHECK(secret_equal("abc", "abc", 3) && !secret_equal("abc", "abd", 3) && secret_equal("a", "b", 0));
}
