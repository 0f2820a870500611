// The scan of a data set as it comes from the network. First byte: transfer syntax; second: how the bytes are cut.
#include <algorithm>

#include "scp/dicom/scan.h"
#include "scp/dicom/uid.h"
#include "tests/fuzz/fuzz_input.h"

using namespace cardionode;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 2) return 0;
    const auto syntaxes = transfer_syntaxes();
    const TransferSyntax& syntax = syntaxes[data[0] % syntaxes.size()];
    const std::size_t piece = 1 + data[1];
    auto bytes = fuzz::bytes_of(data + 2, size - 2);
    const ScanLimits limits{.max_elements = 100'000, .max_bytes = 16U << 20};

    const auto whole = scan_data_set(syntax, bytes, limits);
    DataSetScanner scanner(syntax, limits);
    Result<void> fed;
    while (!bytes.empty() && fed) {
        fed = scanner.feed(bytes.first(std::min(piece, bytes.size())));
        bytes = bytes.subspan(std::min(piece, bytes.size()));
    }
    const auto pieces = scanner.finish();
    CARDIONODE_PROMISE(whole.ok() == pieces.ok());
    if (!whole) {
        CARDIONODE_PROMISE(!whole.error().message.empty());
        return 0;
    }
    CARDIONODE_PROMISE(whole->elements == pieces->elements && whole->sop_instance_uid == pieces->sop_instance_uid);
    CARDIONODE_PROMISE(whole->elements <= limits.max_elements);
    if (check_identity(*whole, whole->sop_class_uid, whole->sop_instance_uid))
        CARDIONODE_PROMISE(is_valid_uid(whole->sop_instance_uid) && is_valid_uid(whole->study_instance_uid));
    return 0;
}
