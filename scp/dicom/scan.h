// A bounded, iterative scan over the bytes of a data set, fed as they arrive.
//
// It runs before any DICOM library sees the object: one pass, no recursion, constant memory (a stack of at most
// kMaxDepth frames of 24 bytes and values of at most kMaxValue bytes), no allocation that follows a length a peer
// announced. It checks that the elements fit together to the last byte and picks the few values that the receiver
// needs. PS3.5 7 (elements, sequences), A.1-A.5 (transfer syntaxes); deflated data are inflated in pieces by zlib.
//
// Thread safety: one scanner belongs to one thread. Errors: Reject, with the tag and the reason, never a value.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "conf/base/result.h"
#include "scp/dicom/syntaxes.h"

namespace cardionode {

struct ScanLimits {
    static constexpr int kMaxDepth = 64;      ///< nested items; real objects stay under 12
    std::uint64_t max_elements = 4'000'000;   ///< elements and items together
    std::uint64_t max_bytes = 2048ULL << 20;  ///< of the data set, after inflating
};

/// The values of the top level of a data set that the receiver needs, without padding. An absent or empty one is "".
struct DataSetFacts {
    std::string sop_class_uid;        ///< (0008,0016)
    std::string sop_instance_uid;     ///< (0008,0018)
    std::string modality;             ///< (0008,0060)
    std::string study_instance_uid;   ///< (0020,000D)
    std::string series_instance_uid;  ///< (0020,000E)
    std::uint64_t elements = 0;
    bool has_pixel_data = false;  ///< (7FE0,0010), (7FE0,0008) or (7FE0,0009)
    bool pixel_data_encapsulated = false;
    std::string patient_id = {};  ///< (0010,0020); "" as well when it is longer than any may be. For no log
};

class DataSetScanner {
public:
    explicit DataSetScanner(const TransferSyntax& syntax, const ScanLimits& limits = {});
    ~DataSetScanner();
    DataSetScanner(DataSetScanner&&) noexcept;
    DataSetScanner& operator=(DataSetScanner&&) noexcept;

    /// The next bytes as received, any number. After an error every later call returns the same error.
    Result<void> feed(std::span<const std::byte> bytes);
    /// The end of the data set. Reject: it ends inside an element or an open sequence.
    Result<DataSetFacts> finish();

private:
    struct State;
    std::unique_ptr<State> state_;
};

/// feed and finish in one.
Result<DataSetFacts> scan_data_set(const TransferSyntax& syntax, std::span<const std::byte> bytes,
                                   const ScanLimits& limits = {});

/// What a stored instance must hold: a known, equal SOP class and SOP instance UID, and valid study and series UIDs.
/// Reject: the reason, naming the attribute, fit for Error Comment (0000,0902) and for a log (no value in it).
Result<void> check_identity(const DataSetFacts& facts, const std::string& command_sop_class_uid,
                            const std::string& command_sop_instance_uid);

}  // namespace cardionode
