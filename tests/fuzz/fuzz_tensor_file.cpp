// A safetensors file as programs without torch read it.
#include <vector>

#include "models/weights/tensor_file.h"
#include "tests/fuzz/fuzz_input.h"

using namespace cardionode;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static fuzz::InputFile input;
    const auto file = TensorFile::open(input.holding(data, size));
    if (!file) return 0;
    std::uint64_t total = 0;
    for (const TensorEntry& entry : file->entries()) {
        total += entry.bytes;
        CARDIONODE_PROMISE(total <= size);
        std::vector<std::byte> bytes(entry.bytes);
        CARDIONODE_PROMISE(file->read(entry, 0, bytes).ok());
        CARDIONODE_PROMISE(file->find(entry.name) != nullptr);
        CARDIONODE_PROMISE(file->floats(entry).ok() == (entry.dtype == "F32"));
    }
    return 0;
}
