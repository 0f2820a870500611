#include "fedclient/coordinator/node_signature.h"

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <cstdio>
#include <memory>

#include <fmt/format.h>

#include "conf/base/base64.h"
#include "conf/base/free_by.h"
#include "conf/base/hash.h"

namespace cardionode::fed {
namespace {

using Key = std::unique_ptr<EVP_PKEY, FreeBy<&EVP_PKEY_free>>;
using Bio = std::unique_ptr<BIO, FreeBy<&BIO_free_all>>;
using DigestContext = std::unique_ptr<EVP_MD_CTX, FreeBy<&EVP_MD_CTX_free>>;

constexpr double kMostBehindSeconds = 305, kMostAheadSeconds = 5;

Result<Key> parse_key(std::string_view pem) {
    const Bio bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
    Key key(bio ? PEM_read_bio_PUBKEY(bio.get(), nullptr, nullptr, nullptr) : nullptr);
    if (!key || EVP_PKEY_base_id(key.get()) != EVP_PKEY_EC)
        return reject_error("the public key is no PEM of an elliptic curve key");
    return key;
}

Result<std::string> id_of(EVP_PKEY* key) {
    unsigned char* der = nullptr;
    const int length = i2d_PUBKEY(key, &der);
    if (length <= 0) return reject_error("the public key cannot be written");
    std::string id = sha256_hex({reinterpret_cast<const char*>(der), static_cast<std::size_t>(length)});
    OPENSSL_free(der);
    return id;
}

}  // namespace

Result<std::string> key_id_of(std::string_view public_key_pem) {
    const auto key = parse_key(public_key_pem);
    if (!key) return key.error();
    return id_of(key->get());
}

std::optional<Moment> parse_timestamp(std::string_view text) {
    int year = 0, month = 0, day = 0, hour = 0, minute = 0, used = 0;
    double second = 0;
    const std::string copy(text.substr(0, 64));
    if (std::sscanf(copy.c_str(), "%4d-%2d-%2dT%2d:%2d:%lf%n", &year, &month, &day, &hour, &minute, &second, &used) !=
        6)
        return std::nullopt;
    const std::chrono::year_month_day date(std::chrono::year(year), std::chrono::month(static_cast<unsigned>(month)),
                                           std::chrono::day(static_cast<unsigned>(day)));
    if (!date.ok() || hour < 0 || hour > 23 || minute < 0 || minute > 59 || !(second >= 0 && second < 61))
        return std::nullopt;
    int offset_minutes = 0;
    const std::string zone = copy.substr(static_cast<std::size_t>(used));
    if (zone != "Z") {
        char sign = 0;
        int hours = 0, minutes = 0, end = 0;
        if (std::sscanf(zone.c_str(), "%c%2d:%2d%n", &sign, &hours, &minutes, &end) != 3 ||
            static_cast<std::size_t>(end) != zone.size() || (sign != '+' && sign != '-'))
            return std::nullopt;
        offset_minutes = (sign == '+' ? 1 : -1) * (hours * 60 + minutes);
    }
    return Moment(std::chrono::sys_days(date).time_since_epoch() + std::chrono::hours(hour) +
                  std::chrono::minutes(minute - offset_minutes) +
                  Milliseconds(static_cast<std::int64_t>(second * 1000)));
}

Result<std::string> check_signed_headers(std::string_view public_key_base64, std::string_view timestamp,
                                         std::string_view signature_base64, Moment now) {
    const auto pem = from_base64(public_key_base64);
    const auto signature = from_base64(signature_base64);
    if (!pem || !signature || pem->empty() || signature->empty())
        return reject_error("flwr-public-key and flwr-signature must be base64");
    const auto moment = parse_timestamp(timestamp);
    if (!moment) return reject_error("flwr-timestamp is no ISO 8601 moment with an offset");
    const auto key = parse_key(*pem);
    if (!key) return key.error();
    const DigestContext context(EVP_MD_CTX_new());
    if (!context || EVP_DigestVerifyInit(context.get(), nullptr, EVP_sha256(), nullptr, key->get()) != 1)
        return bug_error("OpenSSL cannot check a signature");
    const int good =
        EVP_DigestVerify(context.get(), reinterpret_cast<const unsigned char*>(signature->data()), signature->size(),
                         reinterpret_cast<const unsigned char*>(timestamp.data()), timestamp.size());
    if (good != 1) return reject_error("the signature of flwr-timestamp is wrong");
    const double behind = static_cast<double>((now - *moment).count()) / 1000;
    if (behind > kMostBehindSeconds || behind < -kMostAheadSeconds)
        return reject_error(fmt::format("the clock of the node is off: {:.0f} s behind the server", behind));
    return id_of(key->get());
}

}  // namespace cardionode::fed
