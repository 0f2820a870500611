// The pickle machine and the zip directory of PyTorch checkpoints, without torch. First byte: which.
#include "models/weights/pickle.h"
#include "models/weights/zip_archive.h"
#include "tests/fuzz/fuzz_input.h"

using namespace cardionode;

namespace {

void pickle(std::string_view text) {
    const PickleLimits limits{.values = 100'000};
    const auto read = read_pickle(text, limits);
    if (!read) return;
    CARDIONODE_PROMISE(read->bytes <= text.size() && read->root < read->values.size());
    for (const PickleValue& value : read->values) {
        CARDIONODE_PROMISE(value.kind != PickleKind::Dict || value.items.size() % 2 == 0);
        CARDIONODE_PROMISE(value.kind != PickleKind::Tensor || value.items.size() == 3);
        for (const PickleIndex item : value.items) CARDIONODE_PROMISE(item < read->values.size());
    }
}

void zip(const std::uint8_t* data, std::size_t size) {
    static fuzz::InputFile input;
    const auto file = WeightsFile::open(input.holding(data, size));
    if (!file) return;
    const auto entries = read_zip_directory(*file);
    if (!entries) return;
    for (const auto& [name, entry] : *entries) {
        CARDIONODE_PROMISE(entry.begin <= size && entry.bytes <= size - entry.begin);
        CARDIONODE_PROMISE(file->text(entry.bytes, entry.begin).ok());
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 1) return 0;
    if (data[0] % 2 == 0) pickle(fuzz::text_of(data + 1, size - 1));
    else zip(data + 1, size - 1);
    return 0;
}
