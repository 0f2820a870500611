#include "fedclient/privacy/inbound.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include "conf/base/base64.h"
#include "conf/base/files.h"
#include "conf/base/free_by.h"
#include "fedclient/privacy/tensor_values.h"

namespace cardionode::fed {
namespace {

namespace fs = std::filesystem;

using Key = std::unique_ptr<EVP_PKEY, FreeBy<EVP_PKEY_free>>;
using Bio = std::unique_ptr<BIO, FreeBy<BIO_free>>;
using Digest = std::unique_ptr<EVP_MD_CTX, FreeBy<EVP_MD_CTX_free>>;

constexpr std::size_t kSignatureBytes = 64;

/// A service has no terminal: a key that wants a passphrase is an error, not a question.
int no_passphrase(char*, int, int, void*) { return 0; }

template <class Read>
Result<Key> read_key(const fs::path& file, const char* what, Read read) {
    auto text = read_file(file);
    if (!text) return config_error(std::move(text).error().message);
    const Bio bio(BIO_new_mem_buf(text->data(), static_cast<int>(text->size())));
    if (!bio) return retry_error("reading " + file.string() + ": not enough memory");
    Key key(read(bio.get(), nullptr, no_passphrase, nullptr));
    std::fill(text->begin(), text->end(), '\0');
    if (!key) return config_error(file.string() + ": holds no " + what + " in PEM form without a passphrase");
    if (EVP_PKEY_get_id(key.get()) != EVP_PKEY_ED25519) {
        return config_error(file.string() + ": is not an Ed25519 key (openssl genpkey -algorithm ed25519)");
    }
    return key;
}

bool one_line(const std::string& text) {
    return !text.empty() && text.size() <= 512 &&
           std::none_of(text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; });
}

Result<std::string> signed_text(const std::string& model_id, std::int64_t round, const std::string& record_id) {
    if (!one_line(model_id)) return reject_error("the model id is empty, too long or holds control characters");
    if (!one_line(record_id)) return reject_error("the record id is empty, too long or holds control characters");
    return "cardionode-model-1\n" + model_id + "\n" + std::to_string(round) + "\n" + record_id + "\n";
}

const unsigned char* bytes_of(const std::string& text) { return reinterpret_cast<const unsigned char*>(text.data()); }

/// An error about the weights that came is no fault of the installation.
Error about_pulled(Error error) {
    if (error.kind == ErrorKind::Config) error.kind = ErrorKind::Reject;
    return std::move(error).in("the pulled weights");
}

std::string shape_words(const TensorEntry& entry) {
    std::string text = entry.dtype + " [";
    for (std::size_t i = 0; i < entry.shape.size(); ++i) text += (i ? ", " : "") + std::to_string(entry.shape[i]);
    return text + "]";
}

Result<void> check_same(const TensorFile& tensors, const TensorFile& reference) {
    for (const TensorEntry& wanted : reference.entries()) {
        const TensorEntry* found = tensors.find(wanted.name);
        if (found == nullptr) return reject_error("tensor '" + wanted.name + "' is missing");
        if (found->dtype != wanted.dtype || found->shape != wanted.shape) {
            return reject_error("tensor '" + wanted.name + "' is " + shape_words(*found) + ", expected " +
                                shape_words(wanted));
        }
    }
    for (const TensorEntry& entry : tensors.entries()) {
        if (reference.find(entry.name) == nullptr) {
            return reject_error("tensor '" + entry.name + "' is not one of this architecture");
        }
    }
    return {};
}

/// |pulled - previous| over the floating tensors; 0 without previous. All values of `pulled` are looked at.
Result<double> change_norm(const TensorFile& pulled, const TensorFile* previous) {
    double sum = 0;
    for (const TensorEntry& entry : pulled.entries()) {
        if (!entry.floating()) continue;
        std::vector<const TensorFile*> files = {&pulled};
        std::vector<const TensorEntry*> entries = {&entry};
        if (previous != nullptr) {
            files.push_back(previous);
            entries.push_back(previous->find(entry.name));
        }
        auto walked = walk_values(files, entries, [&](const auto& values) -> Result<void> {
            for (std::size_t i = 0; i < values[0].size(); ++i) {
                if (!std::isfinite(values[0][i])) {
                    return reject_error("tensor '" + entry.name + "' holds a value that is not finite");
                }
                const double change = previous != nullptr ? values[0][i] - values[1][i] : 0;
                sum += change * change;
            }
            return {};
        });
        if (!walked) return std::move(walked).error();
    }
    return std::sqrt(sum);
}

double median(std::vector<double> values) {
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    if (values.size() % 2 == 1) return *middle;
    return (*middle + *std::max_element(values.begin(), middle)) / 2;
}

std::string number(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.4g", value);
    return text;
}

}  // namespace

Result<void> verify_model(const fs::path& public_key, const std::string& model_id, std::int64_t round,
                          const std::string& record_id, const std::string& signature) {
    const auto key = read_key(public_key, "public key", PEM_read_bio_PUBKEY);
    if (!key) return Error(key.error());
    const auto text = signed_text(model_id, round, record_id);
    if (!text) return Error(text.error());
    const auto bytes = from_base64(signature);
    if (!bytes || bytes->size() != kSignatureBytes) {
        return reject_error("the model's signature is not the base64 text of 64 bytes");
    }
    const Digest context(EVP_MD_CTX_new());
    if (!context || EVP_DigestVerifyInit(context.get(), nullptr, nullptr, nullptr, key->get()) != 1) {
        return retry_error("verifying the model's signature: OpenSSL cannot begin");
    }
    if (EVP_DigestVerify(context.get(), bytes_of(*bytes), bytes->size(), bytes_of(*text), text->size()) != 1) {
        return reject_error("the model's signature is not the consortium's for this model, round and weights");
    }
    return {};
}

Result<std::string> sign_model(const fs::path& private_key, const std::string& model_id, std::int64_t round,
                               const std::string& record_id) {
    const auto read_private = [](BIO* bio, EVP_PKEY** key, pem_password_cb* ask, void* more) {
        return PEM_read_bio_PrivateKey(bio, key, ask, more);
    };
    const auto key = read_key(private_key, "private key", read_private);
    if (!key) return Error(key.error());
    const auto text = signed_text(model_id, round, record_id);
    if (!text) return Error(text.error());
    const Digest context(EVP_MD_CTX_new());
    std::string bytes(kSignatureBytes, '\0');
    std::size_t size = bytes.size();
    if (!context || EVP_DigestSignInit(context.get(), nullptr, nullptr, nullptr, key->get()) != 1 ||
        EVP_DigestSign(context.get(), reinterpret_cast<unsigned char*>(bytes.data()), &size, bytes_of(*text),
                       text->size()) != 1 ||
        size != kSignatureBytes) {
        return retry_error("signing the model: OpenSSL failed");
    }
    return to_base64(bytes);
}

Result<double> check_inbound(const fs::path& pulled_file, const fs::path& reference_file, const fs::path& previous_file,
                             std::int64_t round, const InboundHistory& history, const InboundRules& rules) {
    if (!std::isfinite(rules.norm_factor) || rules.norm_factor <= 0 || rules.norm_history < 1) {
        return config_error("inbound rules: norm_factor must be above 0 and norm_history at least 1");
    }
    if (round < 0 || (history.round && round <= *history.round)) {
        return reject_error("round " + std::to_string(round) + " does not rise" +
                            (history.round ? " above the accepted round " + std::to_string(*history.round) : ""));
    }
    const auto reference = TensorFile::open(reference_file);
    if (!reference) return Error(reference.error());
    const auto pulled = TensorFile::open(pulled_file);
    if (!pulled) return about_pulled(Error(pulled.error()));
    if (auto same = check_same(*pulled, *reference); !same) return about_pulled(std::move(same).error());
    std::optional<TensorFile> previous;
    if (!previous_file.empty()) {
        auto opened = TensorFile::open(previous_file);
        if (!opened) return std::move(opened).error();
        if (const auto same = check_same(*opened, *reference); !same) {
            return config_error("the weights accepted last do not fit this architecture: " + same.error().message);
        }
        previous = std::move(*opened);
    }
    const auto norm = change_norm(*pulled, previous ? &*previous : nullptr);
    if (!norm) return about_pulled(Error(norm.error()));
    const auto& before = history.change_norms;
    if (previous && before.size() >= static_cast<std::size_t>(rules.norm_history)) {
        const double usual = median(before);
        // The comparison is turned round so that a norm which is not a number is refused too.
        if (usual > 0 && !(*norm <= rules.norm_factor * usual)) {
            return reject_error("the pulled weights: they changed by " + number(*norm) + ", usual are " +
                                number(usual) + ", at most " + number(rules.norm_factor) + " times that is taken");
        }
    }
    return *norm;
}

}  // namespace cardionode::fed
