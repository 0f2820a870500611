// Ids that nobody can guess and that repeat never in practice: 64 random bits of OpenSSL. Not 0.
#pragma once

#include <openssl/rand.h>

#include <cstdint>
#include <stdexcept>

namespace cardionode::fed {

inline std::uint64_t random_id() {
    std::uint64_t id = 0;
    while (id == 0)
        if (RAND_bytes(reinterpret_cast<unsigned char*>(&id), sizeof id) != 1)
            throw std::runtime_error("OpenSSL has no random bytes");
    return id;
}

}  // namespace cardionode::fed
