#include "tests/support/authority.h"

#include <array>
#include <cstdio>
#include <stdexcept>

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "conf/base/free_by.h"

namespace cardionode::test {
namespace {

using Key = std::unique_ptr<EVP_PKEY, FreeBy<EVP_PKEY_free>>;
using Certificate = std::unique_ptr<X509, FreeBy<X509_free>>;
using List = std::unique_ptr<X509_CRL, FreeBy<X509_CRL_free>>;
using File = std::unique_ptr<std::FILE, FreeBy<std::fclose>>;

void must(bool good, const char* what) {
    if (!good) throw std::runtime_error(std::string("test authority: ") + what);
}

Key new_key() {
    Key key(EVP_EC_gen("P-256"));
    must(key != nullptr, "key");
    return key;
}

/// Writes beside the target and renames: who reads meanwhile sees the old file or the new one.
template <class Write>
void write_file(const std::filesystem::path& path, Write write) {
    const std::filesystem::path part = path.string() + ".part";
    {
        const File file(std::fopen(part.c_str(), "wb"));
        must(file && write(file.get()) == 1, path.c_str());
    }
    std::filesystem::rename(part, path);
}

void extend(X509* certificate, X509* issuer, int nid, const std::string& value) {
    X509V3_CTX context;
    X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
    X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str());
    const bool added = extension && X509_add_ext(certificate, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    must(added, value.c_str());
}

constexpr long kDay = 24L * 3600;

Certificate new_certificate(const std::string& common_name, EVP_PKEY* key, long serial, int from_days, int to_days) {
    Certificate made(X509_new());
    must(made != nullptr, "certificate");
    X509* c = made.get();
    const auto* name = reinterpret_cast<const unsigned char*>(common_name.c_str());
    must(X509_set_version(c, X509_VERSION_3) == 1 && ASN1_INTEGER_set(X509_get_serialNumber(c), serial) == 1 &&
             X509_gmtime_adj(X509_getm_notBefore(c), from_days * kDay) &&
             X509_gmtime_adj(X509_getm_notAfter(c), to_days * kDay) && X509_set_pubkey(c, key) == 1 &&
             X509_NAME_add_entry_by_txt(X509_get_subject_name(c), "CN", MBSTRING_UTF8, name, -1, -1, 0) == 1,
         "certificate");
    return made;
}

}  // namespace

struct Authority::Keys {
    Key key;
    Certificate certificate;
};

Authority::~Authority() = default;

Authority::Authority(std::filesystem::path folder, std::string name)
    : folder_(std::move(folder)), name_(std::move(name)), keys_(std::make_unique<Keys>()) {
    std::filesystem::create_directories(folder_);
    keys_->key = new_key();
    keys_->certificate = new_certificate(name_, keys_->key.get(), 1, -30, 3650);
    X509* c = keys_->certificate.get();
    must(X509_set_issuer_name(c, X509_get_subject_name(c)) == 1, "issuer");
    extend(c, c, NID_basic_constraints, "critical,CA:TRUE");
    extend(c, c, NID_key_usage, "critical,keyCertSign,cRLSign");
    extend(c, c, NID_subject_key_identifier, "hash");
    must(X509_sign(c, keys_->key.get(), EVP_sha256()) > 0, "signature");
    write_file(certificate(), [&](std::FILE* f) { return PEM_write_X509(f, c); });
}

std::filesystem::path Authority::certificate() const { return folder_ / (name_ + "-ca.pem"); }

Authority::Issued Authority::issue(const std::string& name, const Wish& wish) {
    Issued issued{folder_ / (name + ".pem"), folder_ / (name + ".key"), {}, next_serial_++};
    const Key key = new_key();
    const Certificate made = new_certificate(wish.common_name, key.get(), issued.serial, wish.from_days, wish.to_days);
    X509* issuer = keys_->certificate.get();
    must(X509_set_issuer_name(made.get(), X509_get_subject_name(issuer)) == 1, "issuer");
    extend(made.get(), issuer, NID_basic_constraints, "CA:FALSE");
    extend(made.get(), issuer, NID_ext_key_usage, "clientAuth,serverAuth");
    if (!wish.names.empty()) extend(made.get(), issuer, NID_subject_alt_name, wish.names);
    must(X509_sign(made.get(), keys_->key.get(), EVP_sha256()) > 0, "signature");
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    unsigned int size = 0;
    must(X509_digest(made.get(), EVP_sha256(), digest.data(), &size) == 1, "digest");
    for (unsigned int i = 0; i < size; ++i) {
        std::array<char, 3> hex{};
        std::snprintf(hex.data(), hex.size(), "%02x", digest[i]);
        issued.sha256 += hex.data();
    }
    write_file(issued.key,
               [&](std::FILE* f) { return PEM_write_PrivateKey(f, key.get(), nullptr, nullptr, 0, nullptr, nullptr); });
    write_file(issued.certificate, [&](std::FILE* f) { return PEM_write_X509(f, made.get()); });
    return issued;
}

std::filesystem::path Authority::revoke(const std::vector<long>& serials, int due_days, bool der) {
    const List list(X509_CRL_new());
    X509_CRL* l = list.get();
    const std::unique_ptr<ASN1_TIME, FreeBy<ASN1_TIME_free>> past(X509_gmtime_adj(nullptr, -20 * kDay)),
        due(X509_gmtime_adj(nullptr, due_days * kDay));
    must(X509_CRL_set_version(l, X509_CRL_VERSION_2) == 1 &&
             X509_CRL_set_issuer_name(l, X509_get_subject_name(keys_->certificate.get())) == 1 &&
             X509_CRL_set1_lastUpdate(l, past.get()) == 1 && X509_CRL_set1_nextUpdate(l, due.get()) == 1,
         "revocation list");
    for (const long serial : serials) {
        X509_REVOKED* one = X509_REVOKED_new();
        const std::unique_ptr<ASN1_INTEGER, FreeBy<ASN1_INTEGER_free>> number(ASN1_INTEGER_new());
        must(ASN1_INTEGER_set(number.get(), serial) == 1 && X509_REVOKED_set_serialNumber(one, number.get()) == 1 &&
                 X509_REVOKED_set_revocationDate(one, past.get()) == 1 && X509_CRL_add0_revoked(l, one) == 1,
             "revoked");
    }
    must(X509_CRL_sort(l) == 1 && X509_CRL_sign(l, keys_->key.get(), EVP_sha256()) > 0, "signature");
    const std::filesystem::path file = folder_ / (name_ + "-revoked.crl");
    write_file(file, [&](std::FILE* f) { return der ? i2d_X509_CRL_fp(f, l) : PEM_write_X509_CRL(f, l); });
    return file;
}

}  // namespace cardionode::test
