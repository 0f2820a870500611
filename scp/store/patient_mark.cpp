#include "scp/store/patient_mark.h"

#include <array>
#include <cerrno>
#include <span>

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <unistd.h>

#include "conf/base/files.h"
#include "conf/base/hash.h"

namespace cardionode {
namespace {

constexpr std::size_t kKeyBytes = 32;

}  // namespace

Result<std::string> patient_key(const std::filesystem::path& spool) {
    const std::filesystem::path file = spool / "patient.key";
    if (::access(file.c_str(), F_OK) == 0) {
        auto key = read_file(file);
        if (!key) return key;
        if (key->size() == kKeyBytes) return key;
        return config_error(fmt::format("{} is damaged: remove it, and a new one is made", file.string()));
    }
    std::string key(kKeyBytes, '\0');
    if (RAND_bytes(reinterpret_cast<unsigned char*>(key.data()), static_cast<int>(key.size())) != 1)
        return bug_error("OpenSSL has no random numbers");
    const std::filesystem::path temporary = spool / ".patient.key";  // a key is there whole, or not at all
    {
        const FileDescriptor made(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
        if (!made.valid()) return file_error("creating", temporary, errno);
        if (auto written = write_all(made.get(), std::as_bytes(std::span(key)), temporary); !written)
            return std::move(written).error();
        if (::fsync(made.get()) != 0) return file_error("syncing", temporary, errno);
    }
    // Not over a key that another receiver has made meanwhile; a file system without links has no second receiver.
    const bool there = ::link(temporary.c_str(), file.c_str()) != 0 && errno == EEXIST;
    if (!there && ::rename(temporary.c_str(), file.c_str()) != 0) return file_error("renaming to", file, errno);
    ::unlink(temporary.c_str());
    if (auto synced = sync_folder(spool); !synced) return std::move(synced).error();
    return there ? read_file(file) : key;
}

std::string patient_mark(const std::string& key, std::string_view patient_id) {
    const std::size_t first = patient_id.find_first_not_of(' ');
    if (key.empty() || first == std::string_view::npos) return {};
    patient_id = patient_id.substr(first, patient_id.find_last_not_of(' ') - first + 1);
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    unsigned int size = 0;
    HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
         reinterpret_cast<const unsigned char*>(patient_id.data()), patient_id.size(), digest.data(), &size);
    return to_hex(std::as_bytes(std::span(digest).first(8)));
}

}  // namespace cardionode
