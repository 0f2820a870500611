// A scanner for tests: speaks DICOM's upper layer from raw sockets, without any DICOM library, and sends the bytes of
// a file's data set as they are, right or wrong (PS3.8 9.3, PS3.7 9.3.1).
//
// Thread safety: one object belongs to one thread. Errors: throws std::runtime_error, which fails the test.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/instance.h"

namespace cardionode::test {

/// One association as SCU.
class Scanner {
public:
    struct Options {
        std::string calling_ae_title = "SCANNER1";
        std::string called_ae_title = "CARDIONODE";
    };
    /// Connects and proposes the class and transfer syntax of every instance.
    Scanner(int port, const std::vector<Instance>& instances, const Options& options);
    Scanner(int port, const std::vector<Instance>& instances) : Scanner(port, instances, Options{}) {}
    Scanner(const Scanner&) = delete;
    Scanner& operator=(const Scanner&) = delete;
    ~Scanner();  ///< closes the connection without a release

    bool accepted() const { return accepted_; }
    /// C-STORE. @return the status of the answer; none: not accepted, or the peer closed or aborted
    std::optional<int> store(const Instance& instance);
    /// Sends a C-STORE request and the first `bytes` of the data set, and nothing more.
    void begin_store(const Instance& instance, std::size_t bytes);
    /// C-ECHO. @return the status
    std::optional<int> echo();
    /// A-RELEASE-RQ and its answer.
    void release();

private:
    std::optional<int> context_of(const std::string& sop_class, const std::string& transfer_syntax) const;
    bool send_bytes(const std::vector<std::uint8_t>& bytes);
    bool send_pdv(int context, bool command, bool last, const std::uint8_t* data, std::size_t size);
    bool send_command(int context, const std::vector<std::uint8_t>& command);
    bool send_store_command(int context, const Instance& instance);
    std::optional<std::vector<std::uint8_t>> receive_pdu(int& type);
    std::optional<int> receive_status();

    int fd_ = -1;
    bool accepted_ = false;
    std::size_t peer_maximum_ = 16384;
    std::uint16_t message_id_ = 0;
    std::map<std::pair<std::string, std::string>, int> contexts_;
};

/// Sends all in one association. @return status by SOP instance UID; absent: no answer came
std::map<std::string, int> send_all(int port, const std::vector<Instance>& instances,
                                    const Scanner::Options& options = {});

}  // namespace cardionode::test
