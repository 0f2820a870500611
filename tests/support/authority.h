// A certificate authority for tests: makes keys, certificates and revocation lists as files, with OpenSSL.
//
// Thread safety: one object belongs to one thread. Errors: throws std::runtime_error, which fails the test.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace cardionode::test {

class Authority {
public:
    struct Issued {
        std::filesystem::path certificate;
        std::filesystem::path key;
        std::string sha256;  ///< of the certificate, 64 hex digits
        long serial = 0;
    };
    struct Wish {
        std::string common_name = "node";
        std::string names = "IP:127.0.0.1,DNS:localhost";  ///< subject alternative names
        int from_days = -1;                                ///< from now
        int to_days = 90;
    };

    /// Makes its own key and certificate. @param folder  where all files go; names begin with `name`
    Authority(std::filesystem::path folder, std::string name);
    ~Authority();
    Authority(const Authority&) = delete;
    Authority& operator=(const Authority&) = delete;

    std::filesystem::path certificate() const;
    /// Writes NAME.pem and NAME.key; files of that name are replaced.
    Issued issue(const std::string& name, const Wish& wish);
    Issued issue(const std::string& name) { return issue(name, Wish{}); }
    /// Writes the revocation list. @param due_days  from now, when the next one is due
    std::filesystem::path revoke(const std::vector<long>& serials, int due_days = 30, bool der = false);

private:
    struct Keys;
    std::filesystem::path folder_;
    std::string name_;
    std::unique_ptr<Keys> keys_;
    long next_serial_ = 100;
};

}  // namespace cardionode::test
