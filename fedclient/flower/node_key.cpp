#include "fedclient/flower/node_key.h"

#include <chrono>
#include <ctime>

#include <fmt/format.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include "conf/base/files.h"
#include "conf/base/free_by.h"
#include "fedclient/net/http_session.h"

namespace cardionode::fed {
namespace {

using Bio = std::unique_ptr<BIO, FreeBy<BIO_free_all>>;
using SignContext = std::unique_ptr<EVP_MD_CTX, FreeBy<EVP_MD_CTX_free>>;

int no_passphrase(char*, int, int, void*) { return -1; }

}  // namespace

Result<NodeKey> NodeKey::load(const std::filesystem::path& file) {
    const auto wrong = [&](std::string_view what) {
        ERR_clear_error();
        return config_error(fmt::format("node key {}: {}", file.string(), what));
    };
    if (auto own = check_key_file(file); !own) return std::move(own).error();
    const auto text = read_file(file);
    if (!text) return config_error(text.error().message);
    const Bio bio(BIO_new_mem_buf(text->data(), static_cast<int>(text->size())));
    NodeKey made;
    made.key_.reset(PEM_read_bio_PrivateKey(bio.get(), nullptr, no_passphrase, nullptr), EVP_PKEY_free);
    if (!made.key_) return wrong("holds no private key in PEM without a passphrase");
    if (EVP_PKEY_get_base_id(made.key_.get()) != EVP_PKEY_EC)
        return wrong("is no elliptic-curve key; P-384 is expected");
    const Bio out(BIO_new(BIO_s_mem()));
    char* bytes = nullptr;
    if (PEM_write_bio_PUBKEY(out.get(), made.key_.get()) != 1) return wrong("its public half cannot be written");
    const long size = BIO_get_mem_data(out.get(), &bytes);
    made.public_pem_.assign(bytes, static_cast<std::size_t>(size));
    return made;
}

Result<std::string> NodeKey::sign(std::string_view text) const {
    const SignContext context(EVP_MD_CTX_new());
    const auto* bytes = reinterpret_cast<const unsigned char*>(text.data());
    std::size_t size = 0;
    std::string signature;
    const bool good =
        EVP_DigestSignInit(context.get(), nullptr, EVP_sha256(), nullptr, key_.get()) == 1 &&
        EVP_DigestSign(context.get(), nullptr, &size, bytes, text.size()) == 1 && (signature.resize(size), true) &&
        EVP_DigestSign(context.get(), reinterpret_cast<unsigned char*>(signature.data()), &size, bytes, text.size()) ==
            1;
    ERR_clear_error();
    if (!good) return bug_error("signing with the node key failed");
    signature.resize(size);
    return signature;
}

std::string signed_timestamp(Moment now) {
    const Moment then = now - std::chrono::seconds(120);
    const auto milliseconds = then.time_since_epoch().count();
    const std::time_t seconds = static_cast<std::time_t>(milliseconds / 1000);
    std::tm parts{};
    ::gmtime_r(&seconds, &parts);
    return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}000+00:00", parts.tm_year + 1900, parts.tm_mon + 1,
                       parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec, milliseconds % 1000);
}

}  // namespace cardionode::fed
