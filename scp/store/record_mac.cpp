#include "scp/store/record_mac.h"

#include <algorithm>
#include <stdexcept>

#include <openssl/evp.h>

namespace cardionode {
namespace {

void require(int result) {
    if (result != 1) throw std::runtime_error("OpenSSL offers no AES-128-GCM");
}

}  // namespace

struct RecordMac::State {
    struct Free {
        void operator()(EVP_CIPHER_CTX* context) const noexcept { EVP_CIPHER_CTX_free(context); }
    };
    std::unique_ptr<EVP_CIPHER_CTX, Free> context{EVP_CIPHER_CTX_new()};
};

RecordMac::RecordMac() : state_(std::make_unique<State>()) {
    if (!state_->context) throw std::runtime_error("no memory for the check of a record");
}
RecordMac::~RecordMac() = default;
RecordMac::RecordMac(RecordMac&&) noexcept = default;
RecordMac& RecordMac::operator=(RecordMac&&) noexcept = default;

void RecordMac::begin(const SegmentKey& key, std::uint64_t number) {
    std::array<unsigned char, 12> nonce{};
    for (std::size_t i = 0; i < 8; ++i) nonce[i] = static_cast<unsigned char>(number >> (8 * i));
    require(EVP_EncryptInit_ex(state_->context.get(), EVP_aes_128_gcm(), nullptr,
                               reinterpret_cast<const unsigned char*>(key.data()), nonce.data()));
}

void RecordMac::update(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        const auto part = bytes.first(std::min<std::size_t>(bytes.size(), 1U << 30));
        int ignored = 0;
        require(EVP_EncryptUpdate(state_->context.get(), nullptr, &ignored,
                                  reinterpret_cast<const unsigned char*>(part.data()), static_cast<int>(part.size())));
        bytes = bytes.subspan(part.size());
    }
}

RecordTag RecordMac::end() {
    RecordTag tag{};
    int ignored = 0;
    unsigned char nothing[16];
    require(EVP_EncryptFinal_ex(state_->context.get(), nothing, &ignored));
    require(EVP_CIPHER_CTX_ctrl(state_->context.get(), EVP_CTRL_GCM_GET_TAG, static_cast<int>(tag.size()), tag.data()));
    return tag;
}

}  // namespace cardionode
